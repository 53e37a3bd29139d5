"""How the pages are made of their templates: all that is put in is escaped, and what is missing is an error."""

from __future__ import annotations

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, Template

from experiments.report.figures import on_page


def page_template(name: str, package: str = "experiments.report") -> Template:
    """The template of a name in a package, which may include those of the reports, such as ``report.css``."""
    loader = ChoiceLoader([PackageLoader(each, ".") for each in dict.fromkeys((package, "experiments.report"))])
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["on_page"] = on_page
    return environment.get_template(name)
