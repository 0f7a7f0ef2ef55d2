"use strict";

// Examples of optional parameters are for reading. Filled in beforehand, they would filter the first answer down to nothing.
const withoutOptionalExamples = (contract) => {
  for (const methods of Object.values(contract.paths ?? {})) {
    for (const operation of Object.values(methods)) {
      for (const parameter of operation.parameters ?? []) {
        if (!parameter.required) delete parameter.example;
      }
    }
  }
  return contract;
};
const EmptyParameters = {
  statePlugins: {
    spec: { wrapActions: { updateJsonSpec: (original) => (contract) => original(withoutOptionalExamples(contract)) } },
  },
};

window.addEventListener("load", () => {
  window.ui = SwaggerUIBundle({
    url: "/openapi.json",
    dom_id: "#documentation",
    deepLinking: true,
    // A key lives as long as the page that it was typed into.
    persistAuthorization: false,
    displayRequestDuration: true,
    tryItOutEnabled: true,
    filter: true,
    docExpansion: "list",
    defaultModelsExpandDepth: 0,
    validatorUrl: null,
    oauth2RedirectUrl: new URL("/docs/assets/oauth2-redirect.html", window.location.href).href,
    presets: [SwaggerUIBundle.presets.apis],
    plugins: [EmptyParameters],
    onComplete: () => window.ui.initOAuth({ usePkceWithAuthorizationCodeGrant: true }),
  });
});
