"""Donau, through its own commands, of which little is known for certain (docs/reference/donau.md): so
everything that differs between its generations is data (``donau.dialect`` of the site file), and whatever is
not understood changes nothing.

===========  ===================================================================================
scheduler    what the rest of ddqjobs calls: builds command lines, runs them, says what failed
answers      what the commands print -> an id, rows, details; pure
tables       a header and rows, or lines of keys and values -> cells by name; pure
states       words -> one of our states; pure
examination  asks the commands about themselves, for `doctor`
generation   help and headers -> which generation it is; pure
record       answers -> files of the project, without names
===========  ===================================================================================
"""
