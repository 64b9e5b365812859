#!/usr/bin/env python3
"""A stand-in for Atom's command line: `list streams`, `read ELEMENT STREAM`, `exit`."""

import json
import sys

from prompt_toolkit import HTML, PromptSession, print_formatted_text
from pyfiglet import Figlet

from atom import Element


def listed(element, what):
    """The names of all streams."""
    if what != "streams":
        raise ValueError(what)
    for stream in element.get_all_streams():
        print_formatted_text(stream)


def read(element, name, stream):
    """The newest entry."""
    for entry in element.entry_read_n(name, stream, 1):
        print_formatted_text(json.dumps(entry, indent=2, default=bytes.decode))


def main():
    """Ask, and do it."""
    element = Element("atom-cli")
    session = PromptSession()
    print_formatted_text(HTML("<b>{}</b>").format(Figlet(font="slant").renderText("ATOM OS")))
    commands = {"list": listed, "read": read, "exit": lambda _: sys.exit()}
    while True:
        try:
            command, *arguments = session.prompt("> ").split()
            commands[command](element, *arguments)
        except EOFError:
            return
        except (KeyError, TypeError, ValueError):
            print_formatted_text("Invalid command.")


if __name__ == "__main__":
    main()
