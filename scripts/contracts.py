"""The one import rule import-linter does not bring: a module of some name belongs to its own package."""

from __future__ import annotations

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class OwnedContract(Contract):
    """Modules called `module_name` are imported only from within their package."""

    type_name = "owned"
    module_name = fields.StringField()

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:  # noqa: ARG002 (import-linter's signature)
        """Finds importers from elsewhere."""
        strangers = [
            f"{importer} -> {module}"
            for module in sorted(graph.modules)
            if module.endswith(f".{self.module_name}")
            for importer in sorted(graph.find_modules_that_directly_import(module))
            if not f"{importer}.".startswith(module.removesuffix(str(self.module_name)))
        ]
        return ContractCheck(kept=not strangers, metadata={"strangers": strangers})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Names each import that has to go."""
        for stranger in check.metadata["strangers"]:
            output.print_error(f"- {stranger}", bold=False)
