"""Release plans: what is to be released, written for people to decide on, and then done by digest.

plan = read_plan(path)                       # what people decided
actions = prepare(records, plan)   # refuses what was not decided, is missing, or changed since
apply(registries, actions, journal, emit)    # every content first, names last
"""
