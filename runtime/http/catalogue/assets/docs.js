// Swagger UI plays a sound from the URL of its call, which a GET does not answer: from its bytes it is played here.
const addresses = new WeakMap();
const PlayedAnswers = (system) => ({
  wrapComponents: {
    responseBody: (Original) => (props) => {
      const { contentType, content } = props;
      const { createElement } = system.React;
      if (!(content instanceof Blob) || !/^(audio|video)\//i.test(contentType)) {
        return createElement(Original, props);
      }
      if (!addresses.has(content)) {
        addresses.set(content, URL.createObjectURL(content));
      }
      const kind = /^audio/i.test(contentType) ? "audio" : "video";
      const player = createElement(kind, { controls: true, src: addresses.get(content) });
      return createElement("div", null, createElement("h5", null, "Response body"), player);
    },
  },
});

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
    plugins: [PlayedAnswers],
  });
}).catch((error) => {
  document.getElementById("docs").textContent = `openapi.json cannot be shown: ${error}`;
});
