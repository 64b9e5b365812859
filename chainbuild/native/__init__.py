"""Native compilers in emulated builds: what can be accelerated, with which tools, and how (docs/native.md)."""
