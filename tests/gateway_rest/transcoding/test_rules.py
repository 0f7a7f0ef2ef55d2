"""Rules that cannot be served are refused at start, naming file, RPC and binding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gateway_rest import contract
from gateway_rest.transcoding import rules

HEAD = """
syntax = "proto3";
package bad.v1;
import "google/api/annotations.proto";
message In {
  string id = 1;
  Sub sub = 2;
  repeated string tags = 3;
  map<string, string> attributes = 4;
}
message Sub { string id = 1; repeated Sub more = 2; }
message Out { string id = 1; }
message WithError { string error = 1; }
message WithFields { string fields = 1; }
"""

BAD = [
    ('rpc Go(In) returns (Out) { option (google.api.http) = {get: "/a/{nope}"}; }', 'has no field "nope"'),
    ('rpc Go(In) returns (Out) { option (google.api.http) = {get: "/a/{tags}"}; }', "is a list or map"),
    ('rpc Go(In) returns (Out) { option (google.api.http) = {get: "/a/{attributes}"}; }', "is a list or map"),
    ('rpc Go(In) returns (Out) { option (google.api.http) = {get: "/a/{sub}"}; }', "it is a message"),
    ('rpc Go(In) returns (Out) { option (google.api.http) = {get: "/a/{sub.more.id}"}; }', "is a list or map"),
    ('rpc Go(In) returns (Out) { option (google.api.http) = {get: "/a/{id.x}"}; }', "has no fields"),
    ('rpc Go(In) returns (Out) { option (google.api.http) = {get: "/a/{id}b"}; }', "next to a variable"),
    ('rpc Go(In) returns (Out) { option (google.api.http) = {get: "/a", body: "*"}; }', "GET must not have a body"),
    ('rpc Go(In) returns (Out) { option (google.api.http) = {delete: "/a", body: "*"}; }', "DELETE must not have a body"),
    ('rpc Go(In) returns (Out) { option (google.api.http) = {post: "/a", body: "nope"}; }', 'body "nope" is not a field'),
    ('rpc Go(In) returns (Out) { option (google.api.http) = {post: "/a", body: "sub.id"}; }', 'body "sub.id" is not a field'),
    (
        'rpc Go(In) returns (Out) { option (google.api.http) = {post: "/a/{id}", body: "id"}; }',
        "bound by the path and by the body",
    ),
    (
        'rpc Go(In) returns (Out) { option (google.api.http) = {get: "/a", response_body: "x"}; }',
        'no field "x" for response_body',
    ),
    ('rpc Go(In) returns (Out) { option (google.api.http) = {body: "*"}; }', "has no HTTP method"),
    ('rpc Go(stream In) returns (Out) { option (google.api.http) = {post: "/a", body: "*"}; }', "streams from the client"),
    ('rpc Go(In) returns (stream WithError) { option (google.api.http) = {get: "/a"}; }', 'a field "error"'),
    ('rpc Go(WithFields) returns (Out) { option (google.api.http) = {get: "/a"}; }', '"fields" is reserved'),
    (
        """rpc Go(In) returns (Out) {
          option (google.api.http) = {get: "/a" additional_bindings {get: "/b" additional_bindings {get: "/c"}}};
        }""",
        "of its own",
    ),
    (
        """rpc Go(In) returns (Out) { option (google.api.http) = {get: "/a/{id}"}; }
        rpc Other(In) returns (Out) { option (google.api.http) = {get: "/a/{sub.id}"}; }""",
        "belong to test.proto: bad.v1.S.Go, binding 0 (GET /a/{id})",
    ),
]


@pytest.mark.parametrize(("text", "complaint"), BAD)
def test_a_bad_rule_is_refused_by_name(text: str, complaint: str, compile_proto: Callable[[str, str], Any]) -> None:
    compiled = compile_proto(f"{HEAD}\nservice S {{\n{text}\n}}\n", "bad.v1")
    with pytest.raises(rules.RuleError) as caught:
        rules.load(compiled.files, compiled.pool, compiled.packages)
    assert complaint in str(caught.value)
    assert "test.proto: bad.v1.S." in str(caught.value)
    assert "binding" in str(caught.value)


def test_a_delete_with_a_body_needs_permission(compile_proto: Callable[[str, str], Any]) -> None:
    text = 'service S { rpc Go(In) returns (Out) { option (google.api.http) = {delete: "/a", body: "*"}; } }'
    compiled = compile_proto(HEAD + text, "bad.v1")
    assert len(rules.load(compiled.files, compiled.pool, compiled.packages, allow_delete_body=True).bindings) == 1


def test_an_id_that_looks_like_a_verb_is_warned_of(compile_proto: Callable[[str, str], Any]) -> None:
    text = """service S {
      rpc Go(In) returns (Out) { option (google.api.http) = {get: "/a/{id}:peek"}; }
      rpc Get(In) returns (Out) { option (google.api.http) = {get: "/a/{id}"}; }
    }"""
    compiled = compile_proto(HEAD + text, "bad.v1")
    assert len(rules.load(compiled.files, compiled.pool, compiled.packages).warnings) == 1


def test_every_public_rpc_is_reachable_and_nothing_else() -> None:
    installed = contract.installed()
    loaded = rules.load(installed.files, installed.pool)
    reached = {binding.rpc.full_name for binding in loaded.bindings}
    public = {
        f"{file.package}.{service.name}.{method.name}"
        for file in installed.files.file
        if file.package == "gipos.v1"
        for service in file.service
        if service.name != "OAuthService"  # it speaks forms; the gateway has routes of its own for it
        for method in service.method
    }
    assert reached == public
    assert loaded.warnings == ()
