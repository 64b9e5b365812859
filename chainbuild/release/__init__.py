"""Release plans: list what to release in a file for people to decide on, then apply it by digest.

plan = read_plan(path)                       # the decisions
actions = prepare(records, plan)   # rejects what is undecided, missing, or changed since
apply(registries, actions, journal, emit)    # pushes all content first, moves tags last
"""
