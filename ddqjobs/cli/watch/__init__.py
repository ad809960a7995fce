"""``ddqjobs status --watch`` on a terminal: one question per refresh, keys at any time, no flicker."""
