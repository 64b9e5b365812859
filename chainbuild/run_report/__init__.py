"""The report of a run, from its events: what each step waited for and did, as a page and for trace viewers."""
