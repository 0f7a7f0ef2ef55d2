"use strict";
// Hands what the authorization server said back to the page that opened this window (the interface is Swagger UI's).
(() => {
  const flow = window.opener && window.opener.swaggerUIRedirectOauth2;
  if (!flow) return;
  const said = new URLSearchParams(window.location.search);
  const name = flow.auth.name;
  if (said.get("state") !== flow.state) {
    flow.errCb({ authId: name, source: "auth", level: "error", message: "The answer belongs to another sign-in." });
  } else if (said.get("code")) {
    delete flow.state;
    flow.auth.code = said.get("code");
    flow.callback({ auth: flow.auth, redirectUrl: flow.redirectUrl });
  } else {
    const message = said.get("error_description") || said.get("error") || "Access was not granted.";
    flow.errCb({ authId: name, source: "auth", level: "error", message });
  }
  window.close();
})();
