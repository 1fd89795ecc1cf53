"""Sphinx settings: MyST pages, the API from docstrings, everything readable without a network."""

import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

project = "reuse_sim"
author = "The reuse_sim maintainers"
copyright = author
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "mathml"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = "reuse_sim"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_math_renderer = "mathml"
html_copy_source = False

myst_enable_extensions = ["dollarmath", "deflist", "colon_fence"]
myst_heading_anchors = 3

napoleon_use_ivar = True
default_role = "code"
autodoc_default_options = {"members": True, "undoc-members": True}
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 90
# Other projects' names have no page here, and no network is asked for one.
# Plain words in annotations (`humans`, `worlds`) are attributes of more than one class.
suppress_warnings = ["ref.python"]
nitpick_ignore_regex = [
    (r"py:.*", r"(?!reuse_sim|tracking).*"),
    # Known to type checkers only.
    (r"py:.*", r"reuse_sim\.plugins\.Annotated|reuse_sim\.scenario\.overrides\.Model|reuse_sim\.ledger\.message\.T"),
]


def plain_docstring(app, what, name, obj, options, lines: list[str]) -> None:
    """Docstrings are plain text with `code` and *stress*: nothing else in them is mark-up."""
    code = False
    for i, line in enumerate(lines):
        following = lines[i + 1 : i + 3]
        if code := code and (not line.strip() or line.startswith("    ")):
            continue
        parts = re.split(r"(`[^`]*`|(?<!\S)\*\w[\w -]*\*(?!\w))", line)  # every other part is mark-up
        parts[::2] = [re.sub(r"([|*\\]|_(?=\W|$))", r"\\\1", p) for p in parts[::2]]
        lines[i] = "".join(f"`{p}`" if p.startswith("`") else p for p in parts)
        if line.endswith(":") and len(following) == 2 and not following[0] and following[1].startswith("    "):
            lines[i], code = lines[i] + ":", True


def whole_sentence(app, what, name, obj, options, lines: list[str]) -> None:
    """Napoleon takes what stands before an attribute's first colon for its type; here it begins the sentence."""
    kinds = [i for i, line in enumerate(lines) if line.startswith(":type: ")]
    if what in ("attribute", "data", "property") and kinds:
        lines[0] = f"{lines.pop(kinds[0]).removeprefix(':type: ')}: {lines[0]}"


def is_build(what: str, name: str) -> bool:
    return what == "function" and name.endswith(".build")


def options_of(build) -> dict[str, tuple[str, str]]:
    """Per option its type with default, and its limits with what it means."""
    from reuse_sim.plugins import options_model

    known = {}
    for option, schema in options_model(build).model_json_schema().get("properties", {}).items():
        kind = " | ".join(map(repr, schema["enum"])) if "enum" in schema else schema.get("type", "value")
        signs = {"exclusiveMinimum": "> ", "minimum": "≥ ", "exclusiveMaximum": "< ", "maximum": "≤ "}
        limits = [kind, *(sign + f"{schema[limit]:,g}" for limit, sign in signs.items() if limit in schema)]
        default = repr(schema["default"]) if "default" in schema else "required"
        known[option] = default, f"{', '.join(limits)}. {schema.get('description', '').capitalize()}"
    return known


def short_signature(app, what, name, obj, options, signature, returns):
    """A plug-in's `build` with its options' defaults; types and limits stand in the list below it."""
    if not is_build(what, name):
        return None
    defaults = [o if default == "required" else f"{o}={default}" for o, (default, _) in options_of(obj).items()]
    return f"({', '.join(defaults)})", returns


def list_options(app, what, name, obj, options, lines: list[str]) -> None:
    if is_build(what, name):
        lines += ["", *(f"- ``{option}``: {meaning}" for option, (_, meaning) in options_of(obj).items()), ""]


def setup(app) -> None:
    app.connect("autodoc-process-docstring", plain_docstring, priority=400)
    app.connect("autodoc-process-docstring", list_options, priority=410)
    app.connect("autodoc-process-docstring", whole_sentence, priority=600)
    app.connect("autodoc-process-signature", short_signature)
