"""The page on which people read and try this API: Swagger UI, with a login by name and password."""

from pathlib import Path
from typing import Any

import flask_swagger_ui
import orjson
from flask import Blueprint, Flask, current_app, render_template_string, send_from_directory

from service.http.openapi import operation
from service.http.web import Answer

SWAGGER_UI_FILES = Path(flask_swagger_ui.__file__).parent / "dist"
SWAGGER_UI_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def init_app(app: Flask) -> None:
    """Give `app` the page, its script and the files of Swagger UI."""
    blueprint = Blueprint("swagger_ui", __name__, url_prefix="/docs")
    blueprint.add_url_rule("/", endpoint="show", view_func=show)
    blueprint.add_url_rule("/<path:path>", endpoint="file", view_func=file)
    app.register_blueprint(blueprint)
    # Of a rule with a slash at its end the router takes the path without one, but does not say 405 for it.
    app.add_url_rule("/docs", "swagger_ui.show")


@operation(
    "Read and try this API",
    name="readDocs",
    tag="system",
    public=True,
    answer={200: {"type": "string"}},
    media_type="text/html",
)
def show() -> Answer:
    """Return the page; it may load its files from here alone."""
    page = Answer(render_template_string(DOCS_PAGE), content_type="text/html; charset=utf-8")
    page.headers["Content-Security-Policy"] = SWAGGER_UI_POLICY
    return page


@operation("Get a file of the page", name="getDocsFile", tag="system", public=True, answer={200: {"type": "string"}})
def file(path: str) -> Any:
    """Return the page's script, or a file of Swagger UI."""
    if path == "index.html":
        return show()
    return Answer(script(), content_type="text/javascript; charset=utf-8") if path == "start.js" else sent(path)


def sent(path: str) -> Any:
    """Return a file of Swagger UI."""
    return send_from_directory(SWAGGER_UI_FILES, path)


def script() -> str:
    """Return the script that starts the page: it knows where one logs in, and what name and password are called."""
    config = current_app.config
    names = ("JWT_AUTH_URL_RULE", "JWT_AUTH_USERNAME_KEY", "JWT_AUTH_PASSWORD_KEY")
    known = orjson.dumps(dict(zip(("path", "username", "password"), (config[name] for name in names), strict=True)))
    return f"const LOGIN = {known.decode()};\n{SCRIPT}"


DOCS_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Madang</title>
<link rel="stylesheet" href="/docs/index.css">
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="icon" type="image/png" href="/docs/favicon-32x32.png" sizes="32x32">
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</html>
"""

SCRIPT = """
// "Authorize" asks for name and password where a document has OAuth2's password flow. This API takes them as JSON, not
// as a form, so the flow is not in the document, which is for all clients: it is added for this page, and translated.
const withLogin = (document) => {
  const schemes = document.components.securitySchemes;
  schemes.login = {
    type: "oauth2",
    description: "Your name and password. The token lives for minutes; then authorize again.",
    flows: { password: { tokenUrl: LOGIN.path, scopes: {} } },
  };
  schemes.bearer.description = "An access token that you have already, instead.";
  for (const path of Object.values(document.paths))
    for (const operation of Object.values(path))
      if (operation.security?.length) operation.security = [...operation.security, { login: [] }];
  document.components.securitySchemes = { login: schemes.login, bearer: schemes.bearer };
  return document;
};

const asJson = (request) => {
  const form = new URLSearchParams(typeof request.body === "string" ? request.body : "");
  if (form.get("grant_type") !== "password") return request;
  request.headers = { Accept: "application/json", "Content-Type": "application/json" };
  request.body = JSON.stringify({
    [LOGIN.username]: form.get("username"), [LOGIN.password]: form.get("password"), device: "API documentation",
  });
  return request;
};

const LoginForm = () => ({
  statePlugins: {
    spec: { wrapActions: { updateJsonSpec: (original) => (document) => original(withLogin(document)) } },
  },
});

window.ui = SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  presets: [SwaggerUIBundle.presets.apis],
  plugins: [LoginForm],
  layout: "BaseLayout",
  requestInterceptor: asJson,
});
"""
