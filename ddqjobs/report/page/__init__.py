"""The report as one page: HTML that needs no network, and is whole without JavaScript.

``facts`` reads what lies behind each run. ``glance``, ``tables``, ``strips``, ``panels`` and ``timeline``
turn a report and those facts into what the page shows, ``charts`` draws the curves, ``render`` fills the
templates. ``page.js`` filters, sorts, and names values under the pointer. Everything that comes from a run is
data: it is escaped, and control characters are spelled out.
"""
