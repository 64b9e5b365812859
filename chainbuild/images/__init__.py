"""Images as chainbuild knows them: how references are resolved, and what images say of themselves."""
