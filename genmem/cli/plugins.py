"""`genmem plugins`: what is installed, what it offers, what is broken; and a new one."""

from __future__ import annotations

from pathlib import Path

import click

from genmem.cli.options import plugin_option


@click.group(
    "plugins", invoke_without_command=True, short_help="List plugins and what they offer; start a new one."
)
@plugin_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def command(ctx: click.Context, plugins: tuple[Path, ...], as_json: bool) -> None:
    """List every component a recipe can name, who provides it, and what is broken.

    GENMEM_BLOCK=a,b leaves plugins (or whole distributions) alone; GENMEM_STRICT=1 stops at the
    first broken one, with its traceback.

    \b
    Examples:
      genmem plugins
      genmem plugins --json
      genmem plugins new sharp
    """
    if ctx.invoked_subcommand is not None:
        return
    from genmem.cli.listing import as_data, show
    from genmem.host import load_catalog

    catalog = load_catalog(plugins)
    if as_json:
        import json

        click.echo(json.dumps(as_data(catalog), indent=1))
    else:
        show(catalog)


@command.command("new")
@click.argument("name")
@click.option("--dir", "folder", type=click.Path(path_type=Path), help="Where to; genmem-NAME if absent.")
def new(name: str, folder: Path | None) -> None:
    """Write a plugin package NAME that works: an objective, and a test of it.

    \b
    Example:
      genmem plugins new sharp
      pip install -e ./genmem-sharp && pytest genmem-sharp
    """
    from genmem.host.scaffold import write_plugin

    try:
        written = write_plugin(name, folder or Path(f"genmem-{name}"))
    except (ValueError, FileExistsError) as error:
        raise click.UsageError(str(error)) from error
    for path in written:
        click.echo(path)
