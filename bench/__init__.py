"""How fast Madang is, beside what one would write without it: `python -m bench` measures and writes the page."""
