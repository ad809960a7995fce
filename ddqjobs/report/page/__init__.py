"""The report as one page: HTML that needs no network and no JavaScript.

``facts`` reads what lies behind each run, ``view`` turns a report and those facts into what the page shows,
``plots`` draws the curves, ``render`` fills the template. Everything that comes from a run is data: it is
escaped, and control characters are spelled out.
"""
