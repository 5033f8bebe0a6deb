// Shows /openapi.json. The names of many functions fit on a page, their routes do not.
fetch("openapi.json").then((response) => response.json()).then((spec) => {
  SwaggerUIBundle({
    spec,
    domNode: document.getElementById("docs"),
    deepLinking: true,
    displayRequestDuration: true,
    docExpansion: Object.keys(spec.paths).length > 100 ? "none" : "list",
    defaultModelsExpandDepth: 0,
    tryItOutEnabled: true,
    validatorUrl: null,
  });
}).catch((error) => {
  document.getElementById("docs").textContent = `openapi.json cannot be shown: ${error}`;
});
