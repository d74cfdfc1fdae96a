"""The commands of the Natural Scenes Dataset. What reads or fetches is imported when a command runs."""

import typer

nsd_app = typer.Typer(no_args_is_help=True, help="The Natural Scenes Dataset: fetch it, check it, prepare it, look at it.")
