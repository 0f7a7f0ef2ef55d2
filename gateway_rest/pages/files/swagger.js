"use strict";
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
    onComplete: () => window.ui.initOAuth({ usePkceWithAuthorizationCodeGrant: true }),
  });
});
