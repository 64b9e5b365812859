"""`chainbuild build` and `chainbuild plan`: the same arguments; `build` builds, `plan` shows what `build` would do."""

from __future__ import annotations

from pathlib import Path

from chainbuild.cli import flags
from chainbuild.cli.show import Show
from chainbuild.requests.options import RunArguments, RunOptions
from chainbuild.values import replace


def build(
    platform: flags.OptionalPlatform = None,
    repo: flags.OptionalRepo = None,
    tag: flags.OptionalTag = None,
    base: flags.OptionalBase = None,
    option: flags.OptionalOption = None,
    production: flags.OptionalProduction = None,
    *,
    for_platform: flags.ForPlatform = None,
    for_repo: flags.ForRepo = None,
    for_tag: flags.ForTag = None,
    for_base: flags.ForBase = None,
    for_option: flags.ForOption = None,
    for_production: flags.ForProduction = None,
    root: flags.Root = Path(),
    base_arg: flags.BaseArg = None,
    context: flags.Context = None,
    build_arg: flags.BuildArgs = None,
    build_context: flags.BuildContexts = None,
    secret: flags.Secrets = None,
    builder: flags.Builders = None,
    no_cache: flags.NoCache = False,
    registry: flags.Registry = None,
    registry_port: flags.Port = None,
    first: flags.First = None,
    only: flags.Only = None,
    until: flags.Until = None,
    refresh: flags.Refresh = False,
    refresh_after: flags.RefreshAfter = None,
    refresh_outdated: flags.RefreshOutdated = None,
    rebase: flags.Rebase = False,
    native: flags.Native = None,
    jobs: flags.Jobs = None,
    keep_going: flags.KeepGoingOrNot = None,
    deadline: flags.Deadline = None,
    strict: flags.StrictOrNot = None,
    push: flags.PushOrNot = None,
    replace_index: flags.ReplaceIndex = False,
    fail_if_stale_index: flags.FailIfStaleIndex = False,
    load: flags.LoadOrNot = None,
    tests: flags.TestsOrNot = None,
    verbose: flags.Verbose = 0,
    plain: flags.Plain = False,
    json: flags.Json = False,
    report: flags.Report = None,
    trace: flags.Trace = None,
    fail_if_build: flags.FailIfBuild = False,
    dry_run: flags.DryRun = False,
    debug: flags.Debug = False,
) -> int:
    """Build the chain of an option and its slim image.

    Without arguments, build the project of chainbuild.yaml.
    """
    from chainbuild.cli.runs.project import build_or_plan

    arguments = RunArguments(platform, repo, tag, base, option, production)
    overrides = RunArguments(for_platform, for_repo, for_tag, for_base, for_option, for_production)
    options = RunOptions(root=root, base_arg=base_arg, registry=registry, port=registry_port, builders=builder)
    options = replace(options, context=context, build_args=build_arg, build_contexts=build_context, secrets=secret)
    options = options.with_renewal(refresh, refresh_after, refresh_outdated, rebase)
    options = replace(options, first=first, only=only, until=until)
    options = replace(options, jobs=jobs, keep_going=keep_going, deadline=deadline, strict=strict, tests=tests)
    options = replace(options, push=push, load=load, native=native, no_cache=no_cache)
    options = replace(options, replace_index=replace_index, fail_if_stale_index=fail_if_stale_index)
    show = Show(verbosity=verbose, plain=plain, json=json, fail_if_build=fail_if_build, dry_run=dry_run, debug=debug)
    show = replace(show, report=report, trace=trace)
    return build_or_plan(arguments, overrides, options, show)


def plan(
    platform: flags.OptionalPlatform = None,
    repo: flags.OptionalRepo = None,
    tag: flags.OptionalTag = None,
    base: flags.OptionalBase = None,
    option: flags.OptionalOption = None,
    production: flags.OptionalProduction = None,
    *,
    for_platform: flags.ForPlatform = None,
    for_repo: flags.ForRepo = None,
    for_tag: flags.ForTag = None,
    for_base: flags.ForBase = None,
    for_option: flags.ForOption = None,
    for_production: flags.ForProduction = None,
    root: flags.Root = Path(),
    base_arg: flags.BaseArg = None,
    context: flags.Context = None,
    build_arg: flags.BuildArgs = None,
    build_context: flags.BuildContexts = None,
    secret: flags.Secrets = None,
    builder: flags.Builders = None,
    no_cache: flags.NoCache = False,
    registry: flags.Registry = None,
    registry_port: flags.Port = None,
    first: flags.First = None,
    only: flags.Only = None,
    until: flags.Until = None,
    refresh: flags.Refresh = False,
    refresh_after: flags.RefreshAfter = None,
    refresh_outdated: flags.RefreshOutdated = None,
    rebase: flags.Rebase = False,
    native: flags.Native = None,
    verbose: flags.Verbose = 0,
    json: flags.Json = False,
    fail_if_build: flags.FailIfBuild = False,
) -> int:
    """Show what `build` would do with the same arguments, and why. With -v, also show the builder's command lines."""
    from chainbuild.cli.runs.project import build_or_plan

    arguments = RunArguments(platform, repo, tag, base, option, production)
    overrides = RunArguments(for_platform, for_repo, for_tag, for_base, for_option, for_production)
    options = RunOptions(root=root, base_arg=base_arg, registry=registry, port=registry_port, builders=builder)
    options = replace(options, context=context, build_args=build_arg, build_contexts=build_context, secrets=secret)
    options = options.with_renewal(refresh, refresh_after, refresh_outdated, rebase)
    options = replace(options, first=first, only=only, until=until, native=native)
    options = replace(options, no_cache=no_cache)
    show = Show(verbosity=verbose, json=json, fail_if_build=fail_if_build, dry_run=True)
    return build_or_plan(arguments, overrides, options, show)
