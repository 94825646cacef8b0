"""Sphinx: `make docs` builds the pages into docs/_build; warnings are errors, no network is used."""

from __future__ import annotations

import ast
import re
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import public  # noqa: E402
from docutils import nodes  # noqa: E402
from sphinx.util.rst import escape  # noqa: E402

import gaussjax  # noqa: E402
from gaussjax.cli import main, options  # noqa: E402

project = "gaussjax"
release = version = gaussjax.__version__
html_title = f"gaussjax {release}"
html_theme = "furo"
html_copy_source = False
html_show_copyright = False
html_static_path = ["style"]
html_css_files = ["wide.css"]
html_theme_options = {"navigation_with_keys": True}

extensions = ["myst_nb", "sphinx_copybutton", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
copybutton_prompt_text, copybutton_prompt_is_regexp = r">>> |\.\.\. ", True
# The notebooks are committed with their outputs, which the tests compare with new ones.
nb_execution_mode = "off"

# Single backticks in docstrings mark code.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = ["Source"]
python_maximum_signature_line_length = 100
# Names of other projects would be looked up on their sites. The listed classes are private: a signature names them, and
# users never make one.
nitpick_ignore_regex = [
    ("py:.*", r"(?!gaussjax\.).*"),
    ("py:class", r".*\.(Served|rollout\.host\.Act|\w+\.T|nodes\.Layer|(recurrent\.)?layers\.(Recurrent)?Layers)"),
]


def _guides() -> dict[str, list[str]]:
    """Public modules that each page uses, by the page's name and in the order of the index."""
    found, index = {}, (HERE / "index.md").read_text(encoding="utf-8")
    for path in sorted(HERE.glob("*.md"), key=lambda path: index.find(f"\n{path.stem}\n")):
        text = path.read_text(encoding="utf-8")
        names = re.findall(r"\bgaussjax(?:\.\w+)+", text)
        for package, imported in re.findall(r"^from (gaussjax[\w.]*) import (.+)$", text, flags=re.MULTILINE):
            names += [f"{package}.{name.split()[0]}" for name in imported.split(",")]
        # A name belongs to the longest module in front of it.
        owners = {max((m for m in public.MODULES if f"{name}.".startswith(f"{m}.")), key=len) for name in names}
        found[path.stem] = [module for module in public.MODULES if module in owners]
    return found


GUIDES = _guides()


def _reference() -> None:
    """Write a page for each module of modules.txt, with links to the pages that use it."""
    folder = HERE / "_reference"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    indexed: list[ast.AST] = []
    for module in public.MODULES:
        guides = ", ".join(f":doc:`/{page}`" for page in GUIDES if module in GUIDES[page] and page != "index")
        parts = [f"{module}\n{'=' * len(module)}\n", f"*In the guide:* {guides}\n" if guides else ""]
        parts.append(f".. automodule:: {module}\n")
        for found in sorted(public.names(module), key=lambda found: isinstance(found.node, ast.ClassDef)):
            directive = "autoclass" if isinstance(found.node, ast.ClassDef) else "autofunction"
            options = "   :members:\n" if directive == "autoclass" else ""
            # A class that several modules export is indexed on the first page.
            options += "   :no-index:\n" if directive == "autoclass" and found.node in indexed else ""
            indexed.append(found.node)
            parts.append(f".. {directive}:: {found.name}\n{options}")
        (folder / f"{module}.rst").write_text("\n".join(parts), encoding="utf-8")
    listed = "\n".join(f"   _reference/{module}" for module in public.MODULES)
    text = "Reference\n=========\n\nA page for each public module.\n\n.. toctree::\n   :maxdepth: 1\n\n" + listed + "\n"
    (HERE / "reference.rst").write_text(text, encoding="utf-8")


def _notebooks() -> None:
    """Copy the notebooks, and write a page that lists them."""
    folder = HERE / "_notebooks"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    found = sorted((HERE.parent / "notebooks").glob("*.ipynb"))
    for path in found:
        shutil.copyfile(path, folder / path.name)
    listed = "".join(f"   _notebooks/{path.stem}\n" for path in found)
    toctree = f".. toctree::\n   :maxdepth: 1\n\n{listed}" if found else "None yet.\n"
    title = "Notebooks\n=========\n\nBegin with the first. Each runs within a minute on two cores.\n\n"
    (HERE / "notebooks.rst").write_text(title + toctree, encoding="utf-8")


def _commands() -> None:
    """Write a page with a section for each command, from the parser of the command line."""
    text = [
        "Command line\n============\n",
        "Each option that is left out has its default. ``--help`` prints the same texts.\n",
    ]
    text += [f"- `gaussjax {name}`_" for name in options.COMMANDS] + [""]
    for name, kind in options.COMMANDS.items():
        parser = main._parser(name, options.docstrings(kind))
        title = f"gaussjax {name}"
        examples = str(parser.epilog).partition("\n")[2]
        text += [f"{title}\n{'-' * len(title)}\n", f"{escape(' '.join(str(parser.description).split()))}\n"]
        text += [f".. code-block:: text\n\n   {parser.usage}\n", f".. code-block:: bash\n\n{examples}\n"]
        text.append(f".. program:: {title}\n")
        for group in parser._action_groups:
            if group._group_actions and len(parser._action_groups) > 1:
                text.append(f".. rubric:: {str(group.title).capitalize()}\n")
            for action in group._group_actions:
                more = f" {action.metavar}" + (" …" if action.nargs == "*" else "") if action.metavar else ""
                words = ", ".join(f"{word}{more}" for word in action.option_strings) or action.metavar
                text.append(f".. option:: {words}\n\n   {escape(str(action.help).replace('%%', '%'))}\n")
    (HERE / "command_line.rst").write_text("\n".join(text), encoding="utf-8")


def _skip(app, what, name, obj, skip, options):
    # The docstring of a NamedTuple describes its fields; setup belongs to Flax.
    return True if type(obj).__name__ == "_tuplegetter" or name == "setup" else skip


def _before(app, what, name, obj, options, lines):
    """Protect colons: napoleon reads the words before a colon under Returns as a type."""
    if what in ("attribute", "property") and lines:
        lines[0] = f": {lines[0]}"
    for i, line in enumerate(lines[:-1]):
        if line.strip() in ("Returns:", "Yields:"):
            text = lines[i + 1].lstrip()
            lines[i + 1] = lines[i + 1].removesuffix(text) + ": " + text


def _after(app, what, name, obj, options, lines):
    """Write the types of fields as code without modules; stars in shapes would be emphasis."""
    for i, line in enumerate(lines):
        if field := re.match(r":vartype (\w+): (.*)$", line):
            kind = re.sub(r"\b(?:gaussjax|collections)(?:\.[a-z_]+)*\.(?=\w)", "", field[2])
            lines[i] = f":vartype {field[1]}: ``{kind}``"


def _to_reference(app, docname, source):
    """End a page with links to the modules that it uses."""
    if GUIDES.get(docname) and docname != "index":
        links = ", ".join(f"[{module}](_reference/{module}.rst)" for module in GUIDES[docname])
        source[0] += f"\n---\n\n*In the reference:* {links}\n"


def _link_names(app, doctree, docname):
    """Link each full name of a public object in the text to the reference."""
    objects = app.env.get_domain("py").objects
    for literal in list(doctree.findall(nodes.literal)):
        name = literal.astext().partition("(")[0]
        if name in objects and not isinstance(literal.parent, nodes.reference):
            target = app.builder.get_relative_uri(docname, objects[name].docname)
            link = nodes.reference("", "", internal=True, refuri=f"{target}#{objects[name].node_id}")
            literal.replace_self(link)
            link += literal


def _break_names(app, doctree, docname):
    """Let the long names in a table break between their words."""
    for entry in doctree.findall(nodes.entry):
        for literal in entry.findall(nodes.literal):
            first, *others = re.split(r"(?<=[_.:/(=,])(?=\w)|(?<=[a-z])(?=[A-Z])", literal.astext())
            literal.children = [nodes.Text(first)]
            for part in others:
                literal += [nodes.raw("", "<wbr>", format="html"), nodes.Text(part)]


def _no_back_links(app, pagename, templatename, context, doctree):
    """Leave out viewcode's links from the source to the reference; some names have entries on several pages."""
    if pagename.startswith("_modules/"):
        context["body"] = re.sub(r'<a class="viewcode-back".*?</a>', "", context["body"])


def setup(app):
    """Generate pages, and connect the handlers."""
    _reference()
    _notebooks()
    _commands()
    app.connect("source-read", _to_reference)
    app.connect("doctree-resolved", _link_names)
    app.connect("doctree-resolved", _break_names)
    app.connect("html-page-context", _no_back_links)
    app.connect("autodoc-skip-member", _skip)
    # Napoleon has the priority 500.
    app.connect("autodoc-process-docstring", _before, priority=400)
    app.connect("autodoc-process-docstring", _after, priority=600)
