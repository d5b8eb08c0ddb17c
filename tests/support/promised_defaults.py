"""The limits and defaults that are promised, literally, each with its reason where its name does not say it.

`tests/unit/test_promises.py` compares them with the source, so that a change is a change of two files, which a reviewer
sees. What the limits of the policies are stands in the instance, once more in its `lock/policies.json`.
"""

from typing import Any

DEFAULTS: dict[str, dict[str, Any]] = {
    "airflow/defaults.py": {
        "TASKS['retries']": 2,  # an outage of minutes is no failed training
        "TASKS['retry_exponential_backoff']": 2.0,  # each pause is twice the one before
        "TASKS['max_retry_delay']": "timedelta(minutes=30)",  # the day's run still ends on its day
        "TASKS['execution_timeout']": "timedelta(hours=1)",  # a stage that hangs does not hold up the next run
        "DAGS['catchup']": False,  # a DAG that was off trains on today's data, not once per missed day
        "DAGS['max_active_runs']": 1,  # two runs would write the same snapshot
    },
    "airflow/hook.py": {
        "MariaDbHook.supports_autocommit": True,
        "render_as_string(hide_password)": False,
    },
    "airflow/notices.py": {
        "_TIMEOUT_SECONDS": 5.0,  # a webhook that does not answer delays no task
        "_MAX_CHARACTERS": 500,  # what chat systems show whole
        "open(timeout)": "_TIMEOUT_SECONDS",
    },
    "airflow/pools.py": {
        "POOLS[PROMOTION_POOL]": "(1, 'changes the champion or the deployment')",  # one at a time: two gates would compare with the same champion
        "POOLS[TRAINING_POOL]": "(2, 'trials in parallel')",  # as many as a worker of two cores runs
    },
    "airflow/runners/container.py": {
        "STOP_SECONDS": 10,  # Time between SIGTERM and SIGKILL
        "create_host_config(auto_remove)": True,  # also if the worker is killed
        "create_host_config(read_only)": True,
        "stop(timeout)": "STOP_SECONDS",
    },
    "airflow/runners/outcome.py": {
        "OF_THE_IMAGE": "frozenset({f'{PREFIX}CONTRACTS', f'{PREFIX}REVISION'})",
    },
    "airflow/runners/pod.py": {
        "LONGEST_SECONDS": 21_600,  # A pod whose worker was killed is ended by Kubernetes after this time
        "START_SECONDS": 600,  # a node may have to pull an image of more than a gigabyte
        "REFUSED": "frozenset({400, 403, 404, 422})",  # what Kubernetes will refuse again
    },
    "airflow/runners/process.py": {
        "WATCH_SECONDS": 1.0,  # a command goes on no longer without the worker that started it
        "KILL_SECONDS": 60.0,  # such a command may end in order, as with a deployment under way
    },
    "airflow/stage.py": {
        # The exit code of a container that a signal ended is this plus the signal's number
        "_SIGNALLED": 128,
        "__init__(on_worker)": False,  # a stage runs where the settings say
        "RETRIED": "frozenset({1, 6})",  # an unexpected error, or something that does not answer: all else is a result
    },
    "cli/app.py": {
        "INTERRUPTED": "(130, 'interrupted; the command can be run again')",
        "SETTINGS['add_completion']": False,
        "SETTINGS['pretty_exceptions_enable']": False,
    },
    "cli/contract.py": {
        "check_contract(model)": False,
        "lock(check)": False,
        "relock(check)": False,  # as above
        "diff(markdown)": False,
        "diff(revision)": "'HEAD'",  # what is about to be committed
    },
    "cli/audit.py": {
        "SHOWN_DIFFERENCES": 20,  # a screen; --json has all
        "replay(sample)": "None min=1 max=MAX_ROWS",  # all that are chosen
    },
    "cli/data.py": {
        "generate(error_rate)": "0.005 min=0 max=0.5",  # as in real deliveries: the quarantine has something to do
        "generate(seed)": "42 min=0 max=MAX_SEED",  # every run writes the same files
        "generate(rows)": "20000 min=1 max=MAX_ROWS",  # trains in seconds
        "generate(folder)": "Path('var/synthetic')",
        "ingest(replace)": False,  # rows of the store go only if that is asked for
        "snapshot(months)": "None min=1 max=120",
    },
    "cli/demo.py": {
        "LOGGED_SECONDS": 120.0,  # Timeout for a prediction to reach the store, in seconds: it is shipped at idle priority
        "demo(seed)": "42 min=0 max=MAX_SEED",  # every demo decides alike
        "demo(rows)": "20000 min=1000 max=MAX_ROWS",  # a demo takes a minute or two
        "demo(profile)": "'fast'",  # as above
    },
    "cli/deployment.py": {
        "deploy(render)": False,
        "deploy(check)": False,
        "deploy(no_probe)": False,  # whatever is deployed answers its probes first
        "deploy(promote)": False,  # only production has a champion to change, see shipping.mk
        "deploy(target)": "TargetName.PROCESS",  # needs neither Docker nor a cluster
        "deploy(reason)": "NOT_GIVEN",
        "rollback(image_only)": False,  # image and champion agree
        "rollback(reason)": "NOT_GIVEN",
        "rollback(to)": "''",  # the previous champion
        "stop(target)": "TargetName.PROCESS",  # as for deploy
        "stop(reason)": "NOT_GIVEN",
    },
    "cli/model.py": {
        "train(force)": False,  # data that was trained on is not trained on again
        "train(profile)": "'fast'",
        "gate(version)": "''",  # the newest
        "promote(version)": "''",  # the newest
        "promote(reason)": "NOT_GIVEN",
    },
    "cli/findings.py": {
        "Number": "min=1 max=9223372036854775807",  # what a column of numbers holds
        "list_(closed)": False,  # what needs attention
        "close(by)": "''",  # whoever runs it
        "due(started)": False,  # to ask changes nothing
    },
    "cli/monitor.py": {
        "monitor(accept_change)": False,  # a changed distribution is refused until somebody looks at it
        "drift(period)": "'daily'",
        "report(load)": "Path('build/reports/load')",
    },
    "cli/options.py": {
        "MAX_ROWS": 100_000_000,  # Maximum number of rows of synthetic data
    },
    "cli/init.py": {
        "SHOWN": 3,  # Categories that are shown of a column, at most
        "init(replace)": False,  # nothing is overwritten unasked
    },
    "cli/outbox.py": {
        "export(remove)": False,  # an export is a copy
    },
    "cli/output.py": {
        "LOG_WIDTH": 120,  # Columns where output goes to a file or a log
        "READABLE": 10,  # Characters that a column has at least, if its texts are that long; numbers and times are never broken
        "dumps(allow_nan)": False,
    },
    "cli/scoring.py": {
        "predict(engine)": "'process'",
        "predict(new)": False,
        "predict(source)": "''",
        "EXPORTED_DAYS": 31,  # as the performance report: later than that no label counts
        "export(days)": ["EXPORTED_DAYS min=1 max=36525", "days"],
        "export(folder)": "''",
        "export(into)": "''",
        "performance(period)": "'daily'",
        "retain(partition)": False,  # it copies the whole log
        "serve(port)": "None min=1 max=65535",
    },
    "cli/traffic.py": {
        "start(kind)": "'shadow'",  # what changes nothing for a client
        "start(reason)": "NOT_GIVEN",
        "step(reason)": "NOT_GIVEN",
        "step(to)": "None min=1 max=1000",
        "stop(reason)": "NOT_GIVEN",
    },
    "cli/training.py": {
        "prepare(profile)": "'fast'",
    },
    "cli/views.py": {
        "SHOWN_REASONS": 8,  # as many as a person reads
    },
    "contract/duplicates.py": {
        "__init__(ordered)": False,  # finds duplicates in any order
    },
    "contract/columns.py": {
        "column(nullable)": False,  # a value is required unless the contract says otherwise
        "column(time_of_day)": False,  # a date is a day unless the contract says otherwise
        "ListOf.items": "min_length=1",  # without an entry, or with an empty separator, a list means nothing
        "ListOf.separator": "',' min_length=1",
        "Simulate.missing": "0.0 ge=0 le=1",  # shares, and a correlation
        "Simulate.shares": "None gt=0",
        "Simulate.signal": "0.0 ge=-1 le=1",
    },
    "contract/payload.py": {
        "FileState.rows": "ge=1",
        "FileState.predicted": "ge=0",
        "FileState.refused": "ge=0",
        "_REMEMBERED_CHARACTERS": 256,  # Longest list that is cached: a client may send a list of any length
        # Longest list that is normalised, as millions of entries would take a hundred times their size in memory
        "_NORMALISED_CHARACTERS": 16_384,
        "make_payload(max_rows)": 10_000,  # bounds the memory of a batch request
        "ConfigDict(extra)": "'forbid'",
    },
    "contract/policy_file.py": {
        "errors(include_input)": False,  # a value may be one that no output should have
        "ConfigDict(extra)": "'forbid'",
        "ConfigDict(allow_inf_nan)": False,
    },
    "contract/rules.py": {
        "NAME_LENGTH": 64,  # MariaDB's limit of a name
    },
    "contract/schemas.py": {
        "table_schema(labels)": False,  # the feature table's
    },
    "contract/judging.py": {
        # Bounds of what a team may tolerate: beyond them no challenger would be withdrawn.
        "Limits.false_withdrawals": "Annotated[float, Field(gt=0, le=0.1)]",
        "Limits.max_errors": "Annotated[float, Field(gt=0, le=0.05)]",
        "Limits.max_slowdown": "Annotated[float, Field(gt=1, le=10)]",
        "Limits.max_class_change": "Annotated[float, Field(gt=0, le=0.5)]",
        "Limits.max_disagreement": "Annotated[float, Field(gt=0, lt=1)]",
        "Limits.max_accuracy_drop": "Annotated[float, Field(gt=0, le=0.25)]",
        "Limits.min_hours": "Annotated[float, Field(ge=0, le=744)]",
        "Limits.wait_for_labels": "Annotated[bool, Field()]",
        "Limits.promote": "Annotated[bool, Field()]",
    },
    "contract/service_levels.py": {
        "Milliseconds": "gt=0 le=60000",  # bounds of what a team may ask of its service: beyond them no limit would refuse
        "Stage.seconds": "Annotated[int, Field(ge=1, le=7200)]",
        "Stage.users": "Annotated[int, Field(ge=1, le=5000)]",
        "Stage.users_per_second": "Annotated[float, Field(gt=0)]",
        "Limits.min_requests_per_second": "Annotated[float, Field(gt=0)]",
        "Limits.max_failed_share": "Annotated[float, Field(ge=0, le=0.05)]",
        "Limits.tolerated_failures": "Annotated[int, Field(ge=0, le=100)]",
        "Shape.wait_seconds": "Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=2, max_length=2)]",
        "Shape.stages": "Annotated[list[Stage], Field(min_length=1)]",
        "BaselineRule.max_slowdown": "Annotated[float, Field(gt=0, le=5)]",
        "BaselineRule.slack_ms": "Annotated[float, Field(ge=0)]",
        "ServiceLevels.shapes": "Annotated[dict[str, Shape], Field(min_length=1)]",
        "Limits.p50_ms": "Milliseconds",
        "Limits.p95_ms": "Milliseconds",
        "Limits.p99_ms": "Milliseconds",
        "Shape.limits": "Limits",
        "ServiceLevels.baseline": "BaselineRule",
    },
    "contract/traffic.py": {
        "LEAD_SECONDS": 15.0,  # From the writing of an experiment until it takes effect
        "Share": "gt=0 le=1",
        "Shadow.share": "Share",
        "Step.share": "Annotated[float, Field(gt=0, le=0.9)]",  # the champion keeps some, to be compared with
        "Step.min_answers": "Annotated[int, Field(ge=1)]",
        "Canary.steps": "Annotated[list[Step], Field(min_length=1)]",
        "Route.when": "Annotated[str, Field(min_length=1, max_length=1000)]",
        "Route.alias": "Literal['champion', 'challenger']",
        "TrafficPolicy.shadow": "Shadow | None = None",  # what is left out cannot be started
        "TrafficPolicy.canary": "Canary | None = None",
        "TrafficPolicy.default": "Literal['champion', 'challenger'] | None = None",
        "TrafficPolicy.route": "list[Route] = Field(default_factory=list)",
        "TrafficPolicy.limits": "Limits | None = None",  # without them no experiment can be started
        "share(step)": 1,
        "experiment(step)": 1,
    },
    "contract/validation.py": {
        "_EXAMPLES": 3,  # enough to find the cause
        "_VALUE_LENGTH": 200,  # a message stays readable
        "_BREACHES_IN_MESSAGE": 5,  # as above
        "examine_chunks(ordered)": False,  # finds duplicates in any order
    },
    "dags/batch_scoring.py": {
        "DAG(schedule)": "CronTriggerTimetable(dag_settings().batch_cron, timezone=str(ZONE))",
        "DAG(dagrun_timeout)": "timedelta(hours=4)",  # a run that hangs does not hold up the next one
        "DAG(**)": "DAGS",
        "score(command)": "['predict', '--new']",
    },
    "dags/continuous_deployment.py": {
        "DAG(schedule)": "[CHAMPION]",
        "DAG(dagrun_timeout)": "timedelta(hours=1)",  # a run that hangs does not hold up the next one
        "check(on_worker)": True,  # what is deployed outlives a container of the stage
        "deploy(pool)": "PROMOTION_POOL",  # in turn with the gate and the promotion
        "deploy(on_worker)": True,
        "smoke(pool)": "PROMOTION_POOL",
        "smoke(on_worker)": True,
        "short_circuit(trigger_rule)": "TriggerRule.ALL_DONE",  # it looks at deployments that failed
        "rollback(pool)": "PROMOTION_POOL",
        "rollback(on_worker)": True,
        "order": [
            "choice >> deploy >> smoke",
            "choice >> up_to_date(check.output)",
            "[deploy, smoke] >> is_broken() >> rollback",
        ],
        "DAG(**)": "DAGS | {'user_defined_macros': DAGS['user_defined_macros'] | {'broken': broken}}",
        "check(command)": "['deploy', '--check']",
        "deploy(arguments)": "['--reason', 'DAG run {{ run_id }}']",  # for the history
        "deploy(command)": "['deploy', '--no-probe']",  # the next task probes it, and shows what it found
        "smoke(command)": "['smoke']",
        "rollback(command)": "['rollback', '--target', 'process']",
        "rollback(arguments)": "['--failed', \"{{ ti.xcom_pull(task_ids='check')['champion'] }}\", '--reason', '{{ broken(ti) }}']",
    },
    "dags/continuous_training.py": {
        "DAG(schedule)": "AssetOrTimeSchedule(timetable=CronTriggerTimetable(dag_settings().training_cron, timezone=str(ZONE)), assets=[FINDING])",
        "DAG(dagrun_timeout)": "timedelta(hours=6)",  # a run that hangs does not hold up the next one
        "TaskGroup(prefix_group_id)": [False, False, False],
        "extract(split_statements)": True,  # the statements of the locked SQL file
        "gate(success_codes)": "(0, 4)",  # a refusal is a result, whose reasons are shown
        "gate(pool)": "PROMOTION_POOL",  # nothing changes the champion that it compares with
        "promote(pool)": "PROMOTION_POOL",
        "trial(pool)": "TRAINING_POOL",
        "order": [
            "extract >> validate >> monitor >> prepare",
            "trial >> finish >> gate",
            "decide(gate.output) >> [promote, not_promoted(gate.output)]",
        ],
        "DAG(**)": "DAGS | {'user_defined_macros': DAGS['user_defined_macros'] | {'profile': profile}}",
        "Param(maxLength)": 100,  # the name of a profile, not a text
        "extract(conn_id)": "FEATURE_STORE",
        "extract(sql)": "'snapshot.mariadb.sql'",
        "extract(handler)": "rows_required",
        "validate(command)": "['validate']",
        "validate(arguments)": "['--base-dt', BASE_DT]",
        "monitor(command)": "['monitor']",  # what it refuses is not trained on
        "monitor(arguments)": "['--base-dt', BASE_DT]",
        "prepare(command)": "['training', 'prepare']",
        "prepare(arguments)": "['--base-dt', BASE_DT, '--profile', \"{{ params.profile or profile(var.value.get('model_version', 'v2')) }}\"]",
        "finish(command)": "['training', 'finish']",
        "finish(arguments)": "[\"{{ ti.xcom_pull(task_ids='prepare')['training'] }}\"]",
        "gate(command)": "['gate']",
        "gate(arguments)": "['--run-id', \"{{ ti.xcom_pull(task_ids='finish')['run_id'] }}\"]",
        "promote(command)": "['promote']",
        "promote(arguments)": "['--version', \"{{ ti.xcom_pull(task_ids='gate')['version'] }}\", '--reason',"
        " 'DAG run {{ run_id }}']",  # what was judged, and for the history
        "promote(outlets)": "[CHAMPION]",
        "promote(asset_event)": "champion_event",
        "trial(command)": "['training', 'trial']",
        "trial(map_index_template)": "'{{ task.map_label }}'",
    },
    "dags/performance_report.py": {
        "DAG(schedule)": "CronTriggerTimetable(dag_settings().report_cron, timezone=str(ZONE))",
        "DAG(dagrun_timeout)": "timedelta(hours=4)",  # a run that hangs does not hold up the next one
        "DAG(**)": "DAGS",
        "due(command)": "['findings', 'due']",
        "StageOperator(command)": "[command]",
        "StageOperator(arguments)": "['--base-dt', BASE_DT, '--period', period]",
        "StageOperator(on_success_callback)": "notice('findings raised', lambda context: findings(context, new=True))",
        "start_training(command)": "['findings', 'due', '--started']",
        "start_training(outlets)": "[FINDING]",
        "start_training(asset_event)": "finding_event",
        "start_training(on_success_callback)": "notice('training started', lambda context: findings(context, new=False))",
        "findings(new)": [False, True],
        # A monitor that failed fails the run, and starts no training.
        "order": [
            "is_due(due.output) >> start",
            "due >> StageOperator(task_id='report', command=['report'])",
            "readers >> StageOperator(task_id='retain', command=['retain'])",  # what is not copied yet is not deleted
            "monitor >> due",
        ],
        "report(command)": "['report']",
        "export(arguments)": "['--base-dt', BASE_DT]",
        "export(command)": "['export']",
        "retain(command)": "['retain']",
    },
    "dags/simple_dag.py": {
        "DAG(schedule)": "'@daily'",
        "Param(minimum)": 0,
        "Param(maximum)": 60,  # a tutorial's task does not occupy a worker for long
        "order": "print_date >> [sleep, templated]",
        "DAG(**)": "DAGS",
        "print_date(bash_command)": "'date'",
        "sleep(bash_command)": "'sleep {{ params.seconds }}'",
        "templated(bash_command)": "COMMAND",
    },
    "dags/traffic.py": {
        "DAG(schedule)": "CronTriggerTimetable(dag_settings().traffic_cron, timezone=str(ZONE))",
        "DAG(dagrun_timeout)": "timedelta(hours=1)",  # a run that hangs does not hold up the next one
        "DAG(**)": "DAGS",
        "judge(command)": "['traffic', 'judge']",
        "judge(pool)": "PROMOTION_POOL",  # nothing else changes the champion meanwhile
        "judge(on_success_callback)": "notice('findings raised', lambda context: findings(context, new=True))",
        "findings(new)": True,
        "order": "is_promoted(judge.output) >> promoted(judge.output)",
    },
    "deployment/client.py": {
        "SECONDS": 10.0,  # Timeout of one request
        "open(timeout)": "SECONDS",
    },
    "deployment/commands.py": {
        "run(timeout)": "seconds",
    },
    "deployment/compose.py": {
        "_POLL_SECONDS": 0.5,  # seldom enough for a host reached by SSH
        "_STOP_SECONDS": 35,  # How long a container may take to stop, besides draining, before it is killed
    },
    "deployment/docker.py": {
        "COMMAND_SECONDS": 600.0,  # Timeout of one command; a pull may take minutes
        "_LOG_LINES": 5,  # the end of a log says why a container stopped
        "_TUNNEL_SECONDS": 15.0,  # an SSH connection over a slow line
        "create_connection(timeout)": 1,
    },
    "deployment/kubernetes.py": {
        "_COMMAND_SECONDS": 120.0,  # a cluster under load still answers
    },
    "deployment/local_container.py": {
        "_POLL_SECONDS": 0.5,
    },
    "deployment/proxy.py": {
        "_POLL_SECONDS": 0.2,
        "_UP_SECONDS": 30.0,  # several of its health checks
    },
    "deployment/smoke.py": {
        "PROBES": 25,  # a wrong class order or encoding shows in a handful
    },
    "derived/canonical.py": {
        "FORMAT": 1,  # Version of the document's layout
    },
    "derived/diff.py": {
        "Step.PATCH": 1,
        "Step.MINOR": 2,
        "Step.MAJOR": 3,
    },
    "derived/synthetic.py": {
        # Probability that a group has a row in a month: over 8 months a group has 1 to 6 rows, about 1.9 on average
        "MONTH_KEPT": 0.2,
        "GROUP_PART": 0.85,  # Share, 0 to 1, of the variance of the latent score that is common to all rows of a group
        "DRIFT": 0.2,  # Shift of the mean latent score from the first month to the last, in standard deviations
        "BLOCK_ROWS": 100_000,  # Rows that are drawn together: 300 MB, whatever the number of rows
        "__init__(block)": 0,  # the only one of a small data set
        "generate(months)": 8,  # several rows for most groups
        "generate(error_rate)": 0.005,  # as for the command
        "write(months)": 8,  # as above
        "write(error_rate)": 0.005,  # as above
    },
    "docker/healthcheck.py": {
        "SECONDS": 4.0,  # less than Docker waits for it, so that it can say what is wrong
        "HTTPConnection(timeout)": "SECONDS",
    },
    "drafts/columns.py": {
        "DIGITS": 8,  # shorter numbers are amounts and measurements more often
        "FEW_DIGITS": 5,  # of fewer digits there are too few numbers to tell persons apart
        "SHARE": 0.85,  # of random numbers, one in ten begins with a zero
        "MAX_ROWS": 200_000,  # Rows that are read: enough for every number that a draft states
        "MAX_MALFORMED": 0.1,  # Largest share of malformed values that does not make a column one of text
        "CLOSED": 30,  # Largest number of values of a closed set
        "COPIES": 10,  # Rows that each value of a closed set has on average, at least
        "RESERVED": "frozenset({'bool', 'column', 'float', 'int', 'pa', 'pd', 'str', 'index', 'base_dt', 'row', 'entity', 'day', 'data'})",
        "CHUNK": 50_000,  # Rows that are read at a time
        "MAX_CLASSES": 100,  # more are no classification that a person can set floors for
        "_each(first)": 0,
    },
    "drafts/draft.py": {
        "QUARANTINE": 0.02,  # Share of a delivery's rows that may be quarantined, unless the data have more
        "draft(seed)": 42,  # that of the training, for the same holdout
        "MAX_QUARANTINE": 0.5,  # a draft that half of its rows break is none
        "GROWTH": "(1.5, 1.5, 3.0, 1000.0)",  # By what the signals of synthetic data are strengthened, in turn
        "NAMED": 3,  # Columns that an error names, at most
    },
    "drafts/features.py": {
        "RAREST": 0.01,  # Smallest share of a category in synthetic data, so that a small sample has it
        "rounded(digits)": 4,  # significant digits of a quantile
        "RANKS": "(0.0, 0.25, 0.5, 0.75, 1.0)",
    },
    "drafts/policies.py": {
        "SLICED": 3,  # Columns that are sliced, at most
        "SLICE_ROWS": "(50, 30)",
        "BANDS": 3,  # Slices of a number, at most
        "LEAST_RECALL": 0.02,  # a class that is never answered fails
    },
    "drafts/signals.py": {
        "LABEL": 0.98,  # Signal of the label
        "LIMIT": 0.97,  # Largest signal of a feature
        "EXACT": 0.999,
        "MANY": 4,
        "MADE_UP['text 1']": 0.5,
        "MADE_UP['text 2']": 0.5,
    },
    "drafts/source.py": {
        "WIDTH": 120,  # Columns of a line, as in pyproject.toml
        "_STEP": 4,
        "python(indent)": 0,
        "python(before)": 0,
        "python(exploded)": False,  # on one line where it fits
    },
    "drafts/conformance.py": {
        "ROWS": 600,  # Rows of synthetic data that an estimator is fitted and scored on: it takes seconds
        "SINGLE_ROWS": 20,  # Rows that are scored one by one
        "THREADS": 4,  # Threads that score at the same time
        "TOLERANCE": 1e-09,  # as for probes
    },
    "drafts/check.py": {
        "ROWS": 3_000,  # Rows of synthetic data that are checked: a model of them takes a second
        "COST_OF_CATEGORIES": 20,  # measured: 100 categories against a number
        "EFFORT": 2_000,  # the largest contract takes seconds; nearly every one is below
        "synthetic_frame(seed)": 42,  # the same verdict every time
    },
    "errors.py": {
        "CtcdError.exit_code": 1,  # workflows and DAGs tell them apart, see docs/commands.md
        "UsageError.exit_code": 2,
        "DataRefused.exit_code": 3,
        "GateRefused.exit_code": 4,
        "NotFound.exit_code": 5,
        "Unreachable.exit_code": 6,
        "DeploymentBroken.exit_code": 7,
    },
    "examples/patterns/parts.py": {
        "ATTEMPTS": 2,
    },
    "files.py": {
        "replacing(synced)": False,  # a report can be made again; what cannot says so
    },
    "git.py": {
        "run(timeout)": 10,
    },
    "html_report.py": {
        "Environment(autoescape)": True,  # values of a delivery are shown in pages
        "dumps(allow_nan)": False,
    },
    "model/encoder.py": {
        "BLOCK_ROWS": 50_000,  # Rows of a frame that are Python objects at once: some 50 MB
        "_DAY_MICROSECONDS": 86_400_000_000,  # a date becomes days
    },
    "model/metrics.py": {
        "ECE_BINS": 15,  # Number of bins of the expected calibration error, as in Guo et al. (2017)
    },
    "model/pipelines.py": {
        "MAX_CATEGORIES": 200,  # Categories of a column that are told apart
        "_FIRST_TIME": "(1980, 1, 1, 0, 0, 0)",
        "BoostingParams.max_iter": "500 ge=1 le=10000",  # early stopping ends it before
        "BoostingParams.n_iter_no_change": "20 ge=1",  # a pause in learning is not its end
        "BoostingParams.learning_rate": "0.1 gt=0 le=1",
        "BoostingParams.max_leaf_nodes": "31 ge=2",
        "BoostingParams.min_samples_leaf": "20 ge=1",
        "BoostingParams.l2_regularization": "0.0 ge=0",
        "BoostingParams.max_features": "1.0 gt=0 le=1",
        "RegressionParams.C": "1.0 gt=0",
        "RegressionParams.max_iter": "2000 ge=1 le=100000",
        "HistGradientBoostingClassifier(early_stopping)": True,
    },
    "model/probes.py": {
        # Largest difference of a probability: another processor may round the last digits differently
        "TOLERANCE": 1e-09,
        "dumps(allow_nan)": False,
    },
    "model/reference.py": {
        "BINS": 10,  # Bins of a number, which hold about equally many rows
        "LEAST_SHARE": 0.025,  # Smallest share of a bin in the reference, 0 to 1
    },
    "model/scorer.py": {
        "SCHEMA_VERSION": 1,  # a model of another layout is refused
        "THRESHOLD_SCHEMA_VERSION": 2,  # an engine that knows no threshold refuses a model that has one
        "dumps(allow_nan)": [False, False],
    },
    "model/trees.py": {
        "SINGLE_THREAD_ROWS": 512,  # With fewer rows than this, starting threads costs more than it saves
        "TreeParams.iterations": "ge=1 le=10000",
        "TreeParams.early_stopping_rounds": "ge=1",
        "TreeParams.learning_rate": "gt=0 le=1",
        "TreeParams.depth": "ge=1 le=16",
        "TreeParams.l2_leaf_reg": "ge=0",
        "TreeParams.rsm": "gt=0 le=1",
        "TreeParams.max_ctr_complexity": "None ge=1 le=8",
        "TreeParams.one_hot_max_size": "None ge=2 le=255",
        "TreeParams.border_count": "None ge=1 le=255",
        "Timedelta(days)": 1,
    },
    "monitoring/checkpoint.py": {
        "MOST_ROWS": 100,  # Maximum number of rows that a query of the data monitor fetches from a server
        "_EXAMPLES": 3,  # enough to find the cause
        "_PROBLEM_LENGTH": 200,  # a message stays readable
        "_VALUE_LENGTH": 100,  # as above
        "DataContextConfig(analytics_enabled)": False,  # nothing is sent to anybody
        "render_as_string(hide_password)": False,
    },
    "monitoring/data_monitor.py": {
        "monitor_data(accept_change)": False,  # as for the command
    },
    "monitoring/expectations.py": {
        "_ROUNDING": 1e-09,  # Relative rounding error added to every tolerance, so that a constant column equals itself
    },
    "monitoring/outcome.py": {
        "_SHOWN": 5,  # as many as a person reads
    },
    "monitoring/findings.py": {
        "list_findings(closed)": False,  # what needs attention
        "training_due(started)": False,  # to ask changes nothing
        "_finding(new)": False,
    },
    "monitoring/floors.py": {
        "FEWEST": 100,  # with fewer, nearly any score is explained by chance
        "FEWEST_OF_CLASS": 30,  # below, Wilson's interval covers less often than it says
        "LABELS_DUE": "timedelta(days=28)",  # the oldest whole week of a report is as old
    },
    "monitoring/performance.py": {
        "HORIZON": "timedelta(days=31)",  # Longest time from a prediction to the date of its label
        "LEVEL": 0.95,  # Two-sided confidence of all intervals
        "ALWAYS_READ": 10_000,  # a month of such days is read in seconds
        "MORE_LABELS": 1.5,  # with as many labels each day, 9 of 31 days are read a day
        "PERIODS[Period.DAILY]": 31,  # as many as `HORIZON`: later labels change no older row
        "PERIODS[Period.WEEKLY]": 5,
    },
    "monitoring/periods.py": {
        "LOOKS[Period.DAILY]": 366,  # Periods of each length that may end in a year
        "LOOKS[Period.WEEKLY]": 53,
    },
    "monitoring/plots.py": {
        "MAX_LINES": 6,  # more lines could not be told apart
        "_LABELS": 6,
    },
    "monitoring/site.py": {
        "WEEKS": 26,  # Number of past weeks of predictions that are shown
        "DAYS": 31,  # as many as `ctcd performance` has
        "VERSIONS": 20,  # Number of versions, the newest, whose decisions are shown
        "_page(good)": True,
    },
    "monitoring/tolerances.py": {
        "LEAST_IN_BIN": 5,  # Rows that the smallest bin has to be expected to hold, so that the limit holds
        "LARGEST_PSI": 0.5,  # PSI that the smallest sample must be able to show
        "Tolerances.drift": "Drift = DEFAULT",  # for an instance from before there were any limits
        "Drift.false_alarms_per_year": "Annotated[float, Field(gt=0, le=52)]",
        "Drift.smallest_sample": "Annotated[int, AfterValidator(_holds), Field(le=1000000)]",
        "Drift.min_psi": "Annotated[float, Field(gt=0, le=0.25)]",
        "Drift.min_share": "Annotated[float, Field(gt=0, le=0.25)]",
        "Drift.ignored": "dict[str, Annotated[str, Field(min_length=10)]]",
        "Tolerances.max_age_days": "Annotated[int, Field(ge=0, le=31)]",  # bounds of what a team may tolerate: beyond them a monitor would see nothing
        "Tolerances.min_row_ratio": "Annotated[float, Field(gt=0, lt=1)]",
        "Tolerances.max_row_ratio": "Annotated[float, Field(gt=1, le=100)]",
        "Tolerances.min_class_share": "Annotated[float, Field(gt=0, lt=0.5)]",
        "Tolerances.class_share": "Annotated[float, Field(gt=0, le=0.25)]",
        "Tolerances.null_share": "Annotated[float, Field(gt=0, le=0.25)]",
        "Tolerances.mean": "Annotated[float, Field(gt=0, le=1)]",
        "Tolerances.median": "Annotated[float, Field(gt=0, le=1)]",
    },
    "progress.py": {
        "report_wait(done)": False,
    },
    "promotion/bootstrap.py": {
        "CONFIDENCE": 0.95,  # of intervals that are shown; the gate decides by the policy's
        "RESAMPLES": 400,  # the bounds are shown with four digits, of which chance leaves two
        "SEED": 20250901,
        "BLOCK_CELLS": 2_000_000,  # Random numbers drawn at once, which bounds the memory
    },
    "promotion/decision.py": {
        "SCHEMA_VERSION": 1,  # Version of the schema that `to_json` writes
        "dumps(allow_nan)": False,
    },
    "promotion/evaluation.py": {
        "ROWS_TIMED": 100,  # Number of single rows whose latency is measured
        "WARM_UP": 10,  # Number of single rows predicted before that
        "BATCH_ROWS": 1_000,  # a smaller holdout is repeated: a call has a fixed cost
        "BLOCK_ROWS": 20_000,  # rows that are in memory as requests at once, each of a kilobyte
        "ROUNDS": 3,  # Number of times that rows and batches are measured; the fastest round counts
        "MAX_QUEUED": 10,  # time in the queue that counts, per time that a thread ran
        "evaluate(drafts_allowed)": True,  # only the gate knows that it is in production
        "Evaluation.drafts_allowed": True,
        "errors(include_input)": False,
    },
    "promotion/evidence.py": {
        "SHOWN_FILES": 5,  # the page has more of them, and the document all
        "EXPLAINED_ROWS": 500,  # takes a tenth of a second with trees of depth 8
    },
    "promotion/gate.py": {
        "dumps(allow_nan)": False,
    },
    "promotion/page.py": {
        "SHOWN_SLICES": 8,  # the document has them all
        "SHOWN_REASONS": 10,
        "SHOWN_SOURCES": 20,
        "SHOWN_DRIFT": 20,
    },
    "promotion/plots.py": {
        "MAX_FEATURES": 12,  # more names could not be read
        "MAX_CLASSES": 10,
        "_STYLE['font.size']": 9,
        "_STYLE['axes.spines.top']": False,
        "_STYLE['axes.spines.right']": False,
        "_STYLE['grid.alpha']": 0.2,
        "_STYLE['text.parse_math']": False,  # a name may have dollar signs
    },
    "promotion/policy.py": {
        "Share": "gt=0 le=1",  # bounds of what a policy may say: beyond them a gate would let everything pass
        "Positive": "gt=0",
        "Edges": "min_length=1",
        "Disabled.reason": "Annotated[str, Field(min_length=10)]",  # a word is no reason
        "Comparison.margin": "Annotated[float, Field(ge=0, le=0.05)]",  # more would promote a model that is worse
        "Comparison.confidence": "Annotated[float, Field(ge=0.8, le=0.999)]",  # less would be chance
        "Comparison.resamples": "Annotated[int, Field(ge=200, le=100000)]",  # fewer give another interval with another seed
        "Comparison.seed": "Annotated[int, Field(ge=0)]",
        "Comparison.min_rows": "Annotated[int, Field(ge=10)]",  # fewer say nothing
        "Slices.by": "Annotated[dict[str, HowCut], Field(min_length=1)]",
        "Slices.min_rows": "Annotated[int, Field(ge=10)]",
        "Slices.max_drop": "Limit[Annotated[float, Field(gt=0, le=0.25)]]",
        "Freshness.max_age_days": "Limit[Annotated[float, Field(gt=0, le=366)]]",  # a model that is older than a year was trained on another world
        "Binary.threshold": "Annotated[float, Field(gt=0, lt=1)]",
        "Disabled.disabled": "Literal[True]",
        "Floors.accuracy": "Limit[Share]",
        "Floors.macro_f1": "Limit[Share]",
        "Floors.recall": "dict[str, Limit[Share]]",
        "Comparison.metric": "Literal['macro_f1', 'accuracy']",
        "Comparison.tie": "Literal['keep', 'replace']",
        "Slices.accuracy": "Limit[Share]",
        "Calibration.max_ece": "Limit[Share]",
        "Speed.max_row_p95_ms": "Limit[Positive]",
        "Speed.max_batch_row_ms": "Limit[Positive]",
        "Artifact.max_mb": "Limit[Positive]",
        "ContractMatch.version_must_match": "Limit[Literal[True]]",
        "Binary.roc_auc": "Limit[Share]",
        "Binary.average_precision": "Limit[Share]",
        "Policy.floors": "Floors",
        "Policy.comparison": "Limit[Comparison]",
        "Policy.slices": "Limit[Slices]",
        "Policy.calibration": "Calibration",
        "Policy.speed": "Speed",
        "Policy.artifact": "Artifact",
        "Policy.contract": "ContractMatch",
        "Policy.freshness": "Freshness",
        "Policy.binary": "Binary | None = None",
    },
    "registry/history.py": {
        "MAX_TEXT": 4000,  # Characters of a text that is kept: MLflow's limit is twice as much
        "_PAGE": 1000,  # Changes that are read at a time
    },
    "registry/tracking.py": {
        "_NOT_FOUND": "frozenset({ErrorCode.Name(RESOURCE_DOES_NOT_EXIST), ErrorCode.Name(INVALID_PARAMETER_VALUE)})",
        "DEFAULTS[environment_variables.MLFLOW_DISABLE_TELEMETRY]": True,  # nothing is sent to anybody
        "DEFAULTS[environment_variables.MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR]": False,
        "DEFAULTS[environment_variables.MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT]": True,
        "DEFAULTS[environment_variables.MLFLOW_RECORD_ENV_VARS_IN_MODEL_LOGGING]": False,  # the environment has secrets
        "DEFAULTS[environment_variables.MLFLOW_UV_AUTO_DETECT]": False,
        "DEFAULTS[environment_variables.MLFLOW_HTTP_REQUEST_MAX_RETRIES]": 2,  # a dead server is an error within seconds
        "DEFAULTS[environment_variables.MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR]": 1,
        "DEFAULTS[environment_variables.MLFLOW_HTTP_REQUEST_TIMEOUT]": 30,  # an artifact takes longer than an answer
        "create_engine(hide_parameters)": True,
    },
    "registry/versions.py": {
        "end_challenge(lost)": False,
        "DESCRIPTION_LENGTH": 5000,  # characters, as MLflow's schema has it
        "_LAST_VERSION": 2147483647,  # MLflow's databases keep 32 bits
    },
    "scripts/airflow_stack.py": {
        "ROWS": 20000,
        "MONTHS": 8,
        "main(port)": "8080 min=1 max=65534",  # MLflow takes the next one
        "main(workers)": "0 min=0 max=8",
        "render_as_string(hide_password)": [False, False, False],
    },
    "scripts/images.py": {
        "ROWS": 20000,
        "LARGEST": 6,
        "docker(capture)": False,
    },
    "scripts/report_regression.py": {
        "SECONDS": 30.0,
        "urlopen(timeout)": "SECONDS",
    },
    "scripts/start_training.py": {
        "SECONDS": 30.0,
        "urlopen(timeout)": "SECONDS",
    },
    "scoring/files.py": {
        "parts_of_table(before)": 0,
        "__init__(header)": True,
    },
    "scoring/spark.py": {
        "TASK_ROWS": 250_000,  # Rows of a task: what a lost executor costs at most
        "_PROGRESS_SECONDS": 1.0,
        "render_as_string(hide_password)": False,  # executors connect with it
    },
    "scoring/store.py": {
        "_SPOOL_BYTES": 67_108_864,  # Rows that wait in memory; more are in a temporary file
    },
    "scoring/replay.py": {
        "CHUNK_ROWS": 5000,  # Answers that are read and computed at a time
        "REQUESTS_AT_ONCE": 200,  # Request ids that the log is asked for at a time
    },
    "serving/app.py": {
        "to_asgi(is_main)": True,  # BentoML's default
        "_Request.__root_input__": True,
    },
    "serving/batch_body.py": {
        # Rows that are parsed, validated, scored and encoded together; other requests get their turn in between
        "PIECE_ROWS": 500,
        # Bytes that are looked at together, and above which no further row is added to a piece
        "PIECE_BYTES": 1_048_576,
        "SPARE": 50,  # Values that a row may have beyond its fields, so that it is parsed and its errors are named
        # Commas and brackets up to which a body that is no batch is parsed, so that its errors are named
        "SMALL": 1000,
        "ConfigDict(extra)": "'forbid'",
    },
    "serving/batch_predictor.py": {
        "SHOWN_ERRORS": 50,  # Errors after which no further row of a batch is checked
        "ConfigDict(extra)": "'forbid'",
        "ThreadPoolExecutor(max_workers)": [1, 1],  # rows of one batch are scored, and logged, in their order
    },
    "serving/cache.py": {
        "FORMAT": 1,  # Version of what is stored, part of each key
        "MAX_WRITES": 64,  # Writes that may wait for a server
        "PIECE": 100,  # Answers in one call of a write
        "SEAL_BYTES": 8,  # Length of the digest that ends a stored answer
        "WAIT_SECONDS": 0.05,  # Longest wait for a server: a request is not delayed any longer
        "PAUSE_SECONDS": 5.0,  # How long a server is not asked that has failed
        "ThreadPoolExecutor(max_workers)": [1, 1],  # a server that hangs holds one thread
    },
    "serving/broker.py": {
        "WORKERS": 8,  # Messages in progress at a time
        "partial(max_workers)": "WORKERS",
        "RETRY_SECONDS": 1.0,  # Pause before what the queue or the broker did not accept is tried again
        "MAX_ID_LENGTH": 255,  # Longest correlation id, as in RabbitMQ
        "MAX_LOOK_SECONDS": 0.1,  # Longest pause between two looks for an answer
        "_COMMON['apply_types']": False,  # a body is read where those of requests are, and its problems are theirs
    },
    "serving/champion/follower.py": {
        "FRESH_SECONDS": 10.0,  # less than the lead of an experiment: what is written since takes effect later
        "CHECK_SECONDS": 0.2,  # Pause between two checks of the state file
        # Pause before a champion is loaded again whose files could not be read, such as with too many files open
        "RETRY_SECONDS": 30.0,
        "END_SECONDS": 5.0,  # How long the poller may take to end before it is killed
    },
    "serving/champion/poller.py": {
        "MAX_PAUSE": 5.0,  # Longest pause between two polls while the registry is unreachable, or with a challenger
        "STOP_SECONDS": 3.0,  # How long a poll or download in progress is waited for at the end
    },
    "serving/children.py": {
        "PARENT_SECONDS": 0.25,  # Pause between two looks for the supervisor
    },
    "serving/http/api_keys.py": {
        "SHORTEST": 16,  # Minimum length of a key, in characters
        # Minimum of `random_bits` of a key; one of 16 random bytes, in base64 or hexadecimal, has 75 on average
        "LEAST_BITS": 30,
    },
    "serving/http/connection.py": {
        "HEAD_BYTES": 65_536,  # How much of an incomplete request head is kept: request line and headers
        "PIECE_BYTES": 4_096,  # How much is parsed at once: its requests may need a hundred times as much memory
        "DESCRIPTORS": 128,  # File descriptors that are not for connections: log, outbox, store, models
    },
    "serving/http/handlers.py": {
        # Batch requests in progress per worker: this and the size of a body bound the memory that they need
        "BATCHES": 4,
        "UPLOADS": 2,  # Uploads of files in progress per worker
        "UPLOAD_BYTES": 1_048_576,  # Of a file in memory; each has the timeout of a request
    },
    "serving/http/problems.py": {
        "SHOWN_CHARACTERS": 64,  # a value is shown, not repeated
        "SHOWN_VIOLATIONS": 50,  # a client sees what is wrong; its answer stays small
        "RETRY_AFTER": 5,  # Seconds after which a client may retry when the service is unavailable
        "__init__(complete)": True,  # a body is read to its end unless it is too large
        "_UNKNOWN": "frozenset({'extra_forbidden', 'unexpected_keyword_argument'})",
        "ProblemDetails.status": "ge=400 le=599",
    },
    "serving/http/openapi.py": {
        "document(asynchronous)": True,  # the lock has every route that a service can have
    },
    "serving/http/routes.py": {
        "Route.logged": True,
    },
    "serving/launch.py": {
        "LOG_TAIL": 5,  # Number of lines of the log that an error shows
        # Longer than clients and load balancers keep a connection open, so that they close it and not the service
        "KEEP_ALIVE_SECONDS": 75,
        "PORT_SECONDS": 2.0,  # How long a port that is in use is waited for
        "_POLL_SECONDS": 0.1,
        "_PROBE_SECONDS": 2.0,  # a service that starts may be slow to answer
        "_KILL_SECONDS": 20.0,  # How long the service may take to end, in addition to draining, before it is killed
        "start(ends_with_parent)": False,  # a deployment outlives the command
        "HTTPConnection(timeout)": "_PROBE_SECONDS",
        "wait_procs(timeout)": 0,
    },
    "serving/logs.py": {
        "FLUSH_SECONDS": 0.05,  # lines are written together, and are seen at once
    },
    "serving/loops.py": {
        # Pause before what ended is started again, so that what cannot run does not use up the machine
        "RESTART_SECONDS": 5.0,
        "get(timeout)": "seconds",  # what a challenger gets
    },
    "serving/metrics.py": {
        "predicted(rows)": 1,
        # Bounds of the histogram of response times: around the limits of service.toml, where the alert needs them
        "SECONDS": "(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)",
        "histogram(buckets)": ["SECONDS", "(1, 2, 4, 8, 16, 32, 64, 128)"],
    },
    "serving/prediction_log/idle.py": {
        "IDLE_SECONDS": 10.0,  # How long a batch may take at idle priority; then it is sent again at the caller's
        # After that happened, nothing is sent at idle priority for so long: the machine has no time for it
        "BUSY_SECONDS": 60.0,
        "ThreadPoolExecutor(max_workers)": 1,
    },
    "serving/prediction_log/outbox.py": {
        "_WAL_PAGES": 4000,  # Size of the log file, in pages, from which on a checkpoint restarts it
        # Size from which on an append checkpoints itself, because the shipper does not get round to it
        "_WAL_PAGES_AT_MOST": 16_000,
        # A commit that extends the log file also waits for the file system's journal
        "RESERVED_BYTES": 33_554_432,
        "RESERVE_BYTES": 4_194_304,  # Size of the reserve: more than is written to delete a whole outbox
        "letters(limit)": 1000,  # a page of dead letters
        "letters(after)": 0,  # from the first
    },
    "serving/prediction_log/outbox_files.py": {
        # Version of a file's layout, its `user_version`; files from before there were versions have 0 and are upgraded
        "FORMAT": 1,
    },
    "serving/prediction_log/records.py": {
        # Version of the format, in each record; records from before there were versions have none and are read too
        "FORMAT": 1,
    },
    "serving/prediction_log/shadow.py": {
        "WAITING_ROWS": 10000,  # what may wait for a challenger that is late, before rows are dropped
        "BATCH_ROWS": 128,
        "CHECK_SECONDS": 0.2,
        "END_SECONDS": 1.0,
    },
    "serving/prediction_log/shipper.py": {
        # Pause after the outbox was emptied, so that a batch is worth a transaction
        "POLL_SECONDS": 0.2,
        # Pause between two batches while few predictions wait, so that requests are not slowed down for long, seconds
        "BATCH_PAUSE": 0.005,
        "MAX_BACKOFF": 10.0,  # Longest pause between two attempts while the store is unreachable, seconds
        "ADOPT_SECONDS": 30.0,  # Time between two searches for outboxes that dead processes left
        # Time between two checkpoints of the outbox: while one writes to the disk, commits of predictions wait for it
        "CHECKPOINT_SECONDS": 5.0,
        # Pause before dead letters are sent again; it doubles while the store accepts none of them
        "RETRY_SECONDS": 30.0,
        "MAX_RETRY_SECONDS": 900.0,  # ... up to this
        "RETRY_LETTERS": 100,  # Dead letters that are sent between two looks at the outbox
        # With more batches than this waiting, batches grow, to this fraction of the backlog each
        "BACKLOG_BATCHES": 20,
        "MAX_GROWTH": 40,  # ... but to no more than this multiple of their usual size
    },
    "serving/prediction_log/shipping.py": {
        "STORE_SECONDS": 30,  # Longest wait for the store's answer to one statement
        "CHECK_SECONDS": 0.2,  # Pause between two checks of the outbox's depth and of the shipping process
        "END_SECONDS": 3.0,  # How long the shipping process may take to end, in addition to draining
        # Once the outbox is filled to more than one part in this many, shipping no longer runs at idle priority
        "URGENT_SHARE": 10,
        "render_as_string(hide_password)": False,
    },
    "serving/requests/answering.py": {
        "POLL_SECONDS": 0.2,  # Pause between two looks for requests that other workers have accepted, or left
        "REST_SECONDS": 5.0,  # Pause after the queue or the outbox could not be written
        "SHOW_SECONDS": 1.0,  # Time between two updates of the metrics while there are always requests
        "SWEEP_SECONDS": 30.0,  # Time between two deletions of what has expired
    },
    "serving/requests/files.py": {
        "PART_ROWS": 10_000,  # as many as a batch request may have
    },
    "serving/requests/queue.py": {
        "MOST_ATTEMPTS": 5,  # How often a request is taken before it is given up
        "_FORMAT": 1,
    },
    "serving/predictor.py": {
        "MAX_BATCH": 128,  # bounds how long one call of the model takes
        "MAX_WAIT": 0.005,  # Longest wait of a request for others to share its batch, seconds
        # Approximate time to send an answer and to receive the next request of the same client, seconds
        "TURNAROUND": 0.0001,
        "ThreadPoolExecutor(max_workers)": 1,
    },
    "serving/traffic.py": {
        "PATIENCE": 0.1,  # Longest that the rows of a batch wait for the challenger, seconds
        "PATIENCE_ROWS": 128,  # Rows of the challenger that it may score in that time
    },
    "serving/runtime.py": {
        "CHALLENGER_SECONDS": 10.0,
        "ORPHAN_SECONDS": 20.0,  # How long a worker without a supervisor may take to end, in addition to draining
    },
    "settings.py": {
        "train_on_findings": "False",  # nothing trains by itself until somebody wants it
        "cool_down_days": "7 ge=1 le=366",  # a week of the new model's predictions, before it is trained again
        "MAX_SEED": 4_294_967_295,  # Largest seed that NumPy takes
        "environment": "Environment.LOCAL",  # whoever ships says so
        "contracts": "Path('contracts')",
        "home": "Path('var')",  # one folder has all that the embedded mode writes
        "feature_store_url": "SecretStr('')",  # a SQLite file: no server is needed
        "mlflow_tracking_uri": "SecretStr('')",  # as above
        "mlflow_ui": "''",
        "timezone": "'Asia/Seoul'",  # the day of the reference data; a deployment names its own
        "snapshot_months": "1 ge=1 le=120",  # labels of one month, as the reference pipeline takes them
        "snapshot_keep_days": "7 ge=1 le=366",  # a week: as long as promotion.toml accepts training data
        "log_keep_months": "None ge=2 le=1200",  # labels count for 31 days, and a week is read five weeks later
        # a chunk fits into memory, and is a transaction that a server accepts
        "ingest_chunk_rows": "20000 ge=1 le=10000000",
        "seed": "42 ge=0 le=MAX_SEED",  # two runs on the same data decide alike
        "threads": "-1 ge=-1 le=1024",  # one per core
        "stage_runner": "StageRunner.SUBPROCESS",  # needs neither Docker nor a cluster
        "stage_image": "''",
        "stage_network": "'host'",  # the store on the worker's host is reached as from the worker
        "stage_volume": "''",
        "stage_namespace": "''",
        "stage_claim": "''",
        "training_cron": "'0 3 * * *'",  # after the day's data is in
        "report_cron": "'0 6 * * *'",  # after the training
        "traffic_cron": "'*/15 * * * *'",  # a bad challenger answers a quarter of an hour longer, at most
        "batch_cron": "'*/30 * * * *'",  # new features are scored within half an hour
        "revision": "''",
        "actor": "''",  # the user of the operating system
        "served_by": "'' max_length=500",  # the column's length; a deployment names its image, else it is the Bento
        "host": "'127.0.0.1'",  # nobody else reaches the service unless somebody asks for it
        "port": "3000 ge=1 le=65535",  # BentoML's
        "workers": "1 ge=1 le=256",  # one model in memory
        "log_level": "LogLevel.INFO",  # one line per request
        "tracing": "False",  # costs time in every request
        "scorer_folder": "None",
        "model_source": "ModelSource.REGISTRY",  # a promotion is served without a deployment
        "follow_seconds": "1 ge=0.1 le=3600",  # a swap is served within seconds
        "api_keys": "SecretStr('')",  # none in local use; elsewhere the service does not start without
        "metrics_keys": "SecretStr('')",  # those of the API
        "metrics_folder": "None",
        "supervisor_pid": "None ge=1 le=4194304",
        "request_max_bytes": "65536 ge=1024 le=1073741824",  # a row has about a kilobyte
        "batch_max_bytes": "16777216 ge=1024 le=1073741824",  # 10,000 rows fit
        "request_seconds": "10 gt=0 le=3600",  # a client is told before its own timeout
        "header_seconds": "10 gt=0 le=3600",  # a slow or idle client does not keep a connection
        "max_connections": "1000 ge=2 le=1000000",  # more would use up the descriptors
        "max_connections_per_address": "500 ge=1 le=1000000",  # one client leaves half to the others
        "outbox_max_records": "100000 ge=1 le=100000000",  # an hour of the reference load while the store is down
        "outbox_batch": "50 ge=1 le=10000",  # a transaction of milliseconds
        "asynchronous": "False",  # a queue on disk, and a thread that looks at it, only for those who ask for it
        "broker_url": "SecretStr('')",
        "requests_max": "10000 ge=1 le=10000000",
        "requests_max_bytes": "268435456 ge=1024 le=1099511627776",  # as many as 16 of the largest batches
        "requests_keep_seconds": "86400 ge=1 le=31536000",  # a day
        "requests_lease_seconds": "60 ge=1 le=86400",  # several times what the largest batch takes
        "upload_max_bytes": "536870912 ge=1024 le=1099511627776",  # a million rows of half a kilobyte
        "upload_max_rows": "1000000 ge=1 le=10000000",
        "consumer_metrics_port": "None ge=1 le=65535",  # no page for those who do not ask for it
        "ship_in_process": "True",  # a thread would slow requests down
        "drain_seconds": "10 ge=0 le=3600",  # less than Kubernetes waits before it kills
        "cache_url": "SecretStr('')",  # none: a row of CatBoost costs less than the look-up
        "cache_seconds": "300 ge=0.1 le=31536000",
        "cache_entries": "10000 ge=1 le=10000000",  # a few megabytes
        "start_seconds": "180 gt=0 le=3600",  # busy machines take long; one that ends is seen at once
        "deploy_folder": "Path('deploy')",
        "deploy_host": "''",
        "deploy_proxy_image": "'haproxy:3.0-bookworm'",  # the long-term release
        "deploy_url": "''",
        "warehouse": "''",  # nothing leaves the store unless somebody asks for it
        "bigquery": "''",  # as above
        "SettingsConfigDict(extra)": "'ignore'",
        "render_as_string(hide_password)": False,
        "errors(include_input)": False,
    },
    "stages/audit.py": {
        "DAYS": 7,  # Days of a history for which no beginning is given
        "_moment(end)": False,
    },
    "stages/findings.py": {
        "list_findings(closed)": False,  # what needs attention
        "training_due(started)": False,  # to ask changes nothing
    },
    "stages/data.py": {
        "ingest(replace)": False,  # a delivery replaces rows only if it is told to
        "monitor_data(accept_change)": False,  # as for the command
    },
    "stages/deployment.py": {
        "deploy(promote)": False,  # as for the command
        "deploy(probed)": True,  # whatever is deployed answers its probes first
        "roll_back(image_only)": False,  # as for the command
        "_put(probed)": True,  # as above
    },
    "stages/outbox.py": {
        "export(remove)": False,  # as for the command
    },
    "stages/scoring.py": {
        "retain(partition)": False,  # as for the command
    },
    "stages/training.py": {
        "train(force)": False,  # as for the command
    },
    "store/bigquery.py": {
        "RETRY_SECONDS": 120.0,  # Seconds for which a request is repeated that gets no answer
        "REQUEST_SECONDS": 60.0,
        "POLL_SECONDS": 2.0,  # a load of a day takes seconds to minutes
        "replace(days)": "tuple(days)",
    },
    "store/conversion.py": {
        "_DAY_LENGTH": 10,  # of 2025-08-31
    },
    "store/engine.py": {
        "CONNECT_SECONDS": 10,  # an unreachable server is an error soon, not a stage that hangs
        # A server notices within milliseconds that a client has gone; on a busy machine it takes longer
        "_LIMIT_PAUSES": "(0.05, 0.1, 0.2, 0.4, 0.8)",
        "BUSY_SECONDS": 30,  # How long a statement waits for the lock of another connection, on SQLite
        "UNFINISHED_SECONDS": 30,  # How long rows that a lost machine has locked stay locked for its successor
        "alone(seconds)": 60,  # another migration ends within that
        "connect(shipping)": False,
        "refusal(lost)": False,
        "create_engine(hide_parameters)": [True, True],
        "create_engine(pool_pre_ping)": True,  # a connection that the server has ended meanwhile is made again
        "JSONEncoder(allow_nan)": False,
    },
    "store/ingest.py": {
        "DELETED_AT_ONCE": 500,  # Rows that one statement deletes
        "ingest(replace)": False,  # as for the stage
    },
    "store/prediction_log.py": {
        "_BATCH": 1000,  # rows per statement
        "_LOCK_SECONDS": 10,  # another batch is written within that, and this one is tried again
        "_OVERHEAD_BYTES": 512,  # What a statement with one row has besides its values, at most
    },
    "store/retention.py": {
        "AHEAD_MONTHS": 3,  # a report that fails for months is noticed
        "MOST_MONTHS": 120,  # a table has 8,192 partitions at most, and each is a file
        "CHUNK_ROWS": 5_000,  # locked for as long as a transaction of the shipping process
        "LOCK_SECONDS": 5,  # predictions wait in the outboxes meanwhile
        "retain(partitions)": False,  # as for the command
        "FREE_IDS": 1_000_000,  # a day of ten requests a second
    },
    "store/rows.py": {
        "_FIRST_LINES": 3,
    },
    "store/sources.py": {
        "HEADER_CHARACTERS": 65_536,  # several hundred columns with long names; each cell of a header is a column
        "WHOLE_LIMIT": 9007199254740992.0,  # Below it, every integer has an exact representation as a double
    },
    "store/tables.py": {
        "FEATURE_LENGTH": 255,  # Length of a feature's name in the table of drift
        "SUBJECT_LENGTH": 500,  # the longest name of a class, and some words
        "REASON_LENGTH": 500,  # some sentences
        "KEY_BYTES": 3_072,  # MariaDB's limits of a key, of a row, and of its part in a page
        "_ROW_BYTES": 65_535,
        "_PAGE_BYTES": 8_126,
        # Maximum length of a source's path; a longer one would not fit into the quarantine table's key
        "SOURCE_LENGTH": 500,
        "SERVED_BY_LENGTH": 500,  # Maximum length of the setting `served_by`
        "_TEXT_LENGTH": 255,  # Length of a text column for which the contract sets no limit
        # Minimum length of a category column, so that a new category rarely requires a migration
        "_CATEGORY_LENGTH": 64,
        "_INT32": 2_147_483_647,  # larger integers need another type
        "_run_id(primary_key)": False,
        "_column(primary_key)": False,
        "UtcDateTime.cache_ok": True,
    },
    "store/snapshot.py": {
        "CHUNK_ROWS": 20_000,  # rows of a snapshot that are in memory as Python objects at once
    },
    "store/upsert.py": {
        "STATEMENT_BYTES": 1_000_000,  # a server takes 16 MiB, unless set up otherwise; 1 MiB is usual for old ones
    },
    "store/warehouse.py": {
        "_LEFT": "timedelta(days=1)",  # no export of a day takes as long
        "ExportReport(days)": "tuple(found)",
    },
    "tests/adopt/copies.py": {
        "AT_ONCE": 2,
    },
    "tests/adopt/updates.py": {
        "AGE": 20,  # merges
    },
    "tests/load/__main__.py": {
        "REFUSED": 1,
        "main(keep)": False,
        "render_as_string(hide_password)": False,
    },
    "tests/load/locustfile.py": {
        "Client.network_timeout": 10.0,
        "Client.connection_timeout": 10.0,
    },
    "tests/load/payloads.py": {
        "write_payloads(count)": 100,
        "write_payloads(start)": 1,
        "dumps(allow_nan)": False,
    },
    "tests/load/service_levels.py": {
        "Measured.requests": "Annotated[int, Field(ge=0)]",
        "Measured.failures": "Annotated[int, Field(ge=0)]",
        "Finding.better": "Literal['lower', 'higher']",
    },
    "tests/load/targets.py": {
        "LOOPBACK": "frozenset({'127.0.0.1', '::1', 'localhost'})",
    },
    "tests/prove/base.py": {
        "Check.quick": True,
    },
    "tests/prove/mutation.py": {
        "GOALS['deployment']": 0.95,  # of the tested mutants
        "GOALS['monitoring']": 0.95,
        "GOALS['serving']": 0.95,
        "GOALS['stages']": 0.95,
        "GOALS[DECIDES]": 0.97,
        "CAUGHT": "frozenset({'killed', 'timeout', 'caught by type check', 'segfault'})",
        "AROUND": 30,
    },
    "tests/prove/tree.py": {
        "TIMEOUT_SECONDS": 1_200,  # a gate that hangs is a broken gate
        "PATIENCE_SECONDS": 40,  # of a test that waits in vain; the sound copy's has to do with it, too
        "TESTS_FAILED": 1,  # pytest's
        "REFUSED": 4,
        "run(timeout)": "TIMEOUT_SECONDS",
    },
    "traffic/judging.py": {
        "QUANTILES['median']": 0.5,
        "QUANTILES['95th percentile']": 0.95,
        "Stage.step": 1,
        "Stage.steps": 1,
        "Stage.allowed": True,  # but for a policy that was changed while it ran
        "_measure(blocks)": True,  # missing evidence is none in a challenger's favour
        "cls(hours)": ["hours", "hours"],
    },
    "traffic/observed.py": {
        "_CHUNK": 50_000,  # Response times that are read at a time
    },
    "traffic/sequential.py": {
        "_STEPS": 60,  # Halvings of an interval: more than a double has bits of precision
    },
    "training/baselines.py": {
        "MAX_ITERATIONS": 2000,  # the logistic regression converges
        "MAX_ROWS": 100_000,  # a linear model learns nothing from more, and its dense columns take a kilobyte a row
    },
    "training/distributed.py": {
        "KEPT_SECONDS": 604_800,  # Age at which the folder of a training is deleted
        "dumps(allow_nan)": False,
    },
    "training/runs.py": {
        "ABANDONED_AFTER": "timedelta(days=1)",  # no training of the full grid takes a day
    },
    "training/split.py": {
        "VALIDATION": 0.2,  # of the groups: three fifths are trained on
        "HOLDOUT": 0.2,  # as above: enough rows to compare two models on
    },
    "training/trial.py": {
        "CURVE_POINTS": 100,  # MLflow takes 1,000 values at once
    },
    "training/train.py": {
        "ONE_BY_ONE_ROWS": 200_000,  # with more rows to fit to, trials run one after the other
        "train(force)": False,  # as for the command
    },
    "urls.py": {
        "PLACEHOLDERS": "frozenset({'changeme', 'changethis', 'default', 'example', 'mlops', 'password', 'placeholder', 'root', 'secret'})",  # what examples have, ours and those of databases
        "_SEPARATOR_BITS": 2,
        "_NEXT_BITS": 1.5,
        "render_as_string(hide_password)": False,
    },
}
