"use strict";
window.addEventListener("load", () => {
  Redoc.init(
    "/openapi.json",
    { hideDownloadButtons: false, pathInMiddlePanel: true, requiredPropsFirst: true, nativeScrollbars: true, hideSchemaPattern: true, expandResponses: "200,201" },
    document.getElementById("documentation"),
  );
});
