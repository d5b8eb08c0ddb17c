"""Defects between parts that are sound: what is handed on, logged, counted, named, kept or said is not what it should be."""

from prove.base import Area, Defect
from prove.in_tree import REGISTRY, _code, _edit
from prove.tree import Tests

SHIPPED = "integration/serving/test_shipping_process.py"
DEFAULTS = "integration/cli/test_real_defaults.py"
MIDNIGHT = "unit/stages/test_days.py::test_a_row_exactly_at_midnight_counts_once"
KEPT = "unit/stages/test_days.py::test_seven_days_of_snapshots_are_kept"
MANIFESTS = "unit/stages/test_handed_on.py::test_manifests_name_one_version_and_its_image"
KINDS = "broker/test_kinds.py"
OUTLIVES = f"{KINDS}::test_what_a_broker_holds_outlives_its_restart"
UNTAGGED = "unit/deployment/test_deployed_image.py::test_a_tag_reaches_no_target"
STRICT = "integration/store/test_engine.py::test_every_session_is_strict_and_in_utc"
CACHED = "unit/serving/test_cache.py::test_each_model_that_comes_later_has_the_cache_too"
CHANGED = '__import__("dataclasses").replace(part.predictions,'
FIELDS = "unit/serving/test_log_agreement.py::test_every_field_of_the_log_is_what_the_client_was_told"
DELAY = "unit/serving/test_log_agreement.py::test_a_known_delay_is_in_every_record_of_a_duration"
ROUTES = "unit/serving/test_agreement_of_routes.py::test_all_routes_agree_before_and_after_each_kind_of_swap"
OVERTAKEN = (
    "unit/serving/test_agreement_of_routes.py::test_an_answer_that_a_swap_overtakes_names_the_model_that_gave_it"
)
COUNTS = "unit/store/test_counts.py::test_every_row_is_written_or_in_the_quarantine"
CRASH = "unit/serving/test_durability.py::test_a_crash_of_the_machine_loses_no_answer"
ON_DISK = "unit/serving/test_uploads.py::test_parts_and_results_are_on_disk_before_they_have_their_names"
SYNCED = "unit/test_files.py::test_a_synced_file_is_on_disk_before_its_name_is_and_both_before_it_returns"
DRAFTS = "integration/deployment/test_release.py::test_a_contract_with_drafts_goes_nowhere_in_production"
LATE = "unit/store/test_warehouse.py::test_a_day_is_written_again_only_if_predictions_have_come_since"
MARKS = "integration/serving/test_marks.py::test_a_service_says_no_secret_and_no_name"

OPTIONS = "unit/cli/test_options.py::test_an_option_reaches_its_stage"
HANDED_ON = "unit/stages/test_handed_on.py::test_a_stage_hands_on_what_it_is_given"
ENDS = "unit/prove/test_entry_points.py"
TRAFFIC, POLICY = "unit/serving/test_traffic.py", "unit/contract/test_traffic.py"
SHADOWED = "unit/monitoring/test_answering.py::test_what_a_shadow_has_scored_is_no_answer"
ON_SPARK = "unit/scoring/test_spark.py::test_"
PROBES = "unit/deployment/test_smoke.py::test_an_answer_that_is_not_the_models_fails_the_probes"


def _service(name: str, path: str, old: str, new: str, test: str) -> Defect:
    return _code(name, path, old, new, test, area=Area.SERVICE)


DEFECTS = [
    _code(
        "drafts deployed in production", "stages/deployment.py",
        "    if promote or version is not None:", "    if promote and version is None:",
        DRAFTS,
    ),
    _code(
        "drafts promoted in production", "stages/promotion.py",
        "    require_confirmed(settings)\n", "",
        DRAFTS,
    ),
    _code(
        "gate that judges by the day in UTC", "promotion/gate.py",
        "today or settings.today()", "today or datetime.now(UTC).date()",
        f"{DEFAULTS}::test_a_day_begins_in_the_configured_zone",
    ),
    _code(
        "each model judged on its own holdout", "promotion/gate.py",
        "            holdout,\n            contract,\n            info,\n",
        "            runs.evidence(info.run_id, HOLDOUT_FILE),\n            contract,\n            info,\n",
        f"{DEFAULTS}::test_both_models_are_judged_on_the_holdout_of_the_candidate",
    ),
    _code(
        "scorer of another registry's version of the same number", "registry/versions.py",
        '        folder = cache / f"{info.version}-{info.run_id}"\n',
        '        if found := next(cache.glob(f"{info.version}-*"), None):\n            return found\n'
        '        folder = cache / f"{info.version}-{info.run_id}"\n',
        f"{DEFAULTS}::test_a_second_registry_in_the_same_home_has_its_own_version_1",
    ),
    _code(
        "midnight that belongs to two days", "monitoring/samples.py",
        "(created_at < end)", "(created_at <= end)", MIDNIGHT,
    ),
    _code(
        "midnight that belongs to no day", "monitoring/samples.py",
        "(created_at >= begin)", "(created_at > begin)", MIDNIGHT,
    ),
    _code(
        "drift since the candidate's own training", "promotion/gate.py",
        "since = drift(champion, holdout)", "since = drift(registry.info(version), holdout)",
        "integration/cli/test_real_defaults.py::test_the_evidence_goes_from_the_files_to_the_champion",
    ),
    _code(
        "what was there before the first change on record is not known", "registry/history.py",
        "found.setdefault(each.target, each.version if each.what in ended else each.before)", "continue",
        "unit/stages/test_audit.py::test_what_the_first_change_replaced_was_there_before",
    ),
    _code(
        "deployment that was stopped and still runs by its history", "registry/history.py",
        "ended, found = (What.WITHDRAWN, What.STOPPED)", "ended, found = (What.WITHDRAWN,)",
        "unit/stages/test_audit.py::test_what_was_stopped_runs_no_more",
    ),
    _code(
        "stop that is not on record", "stages/deployment.py",
        "open_registry(settings).record_stop(reason=reason, target=_place(settings, target))", "open_registry(settings)",
        "integration/deployment/test_release.py::test_a_stop_is_on_record_once",
    ),
    _service(
        "confidence of the most probable class in the log", "serving/prediction_log/records.py",
        "                confidence=confidence,", "                confidence=max(probabilities or [confidence]),", FIELDS,
    ),
    _service(
        "confidence of the most probable class in an answer", "serving/predictor.py",
        "            confidence=confidence,", "            confidence=max(probabilities),", FIELDS,
    ),
    _service(
        "confidence of the most probable class in a batch", "serving/batch_predictor.py",
        '"confidence": confidence,', '"confidence": max([confidence, *each]),', FIELDS,
    ),
    _service(
        "confidence of the most probable class in a shadow", "serving/prediction_log/shadow.py",
        "confidence=found.confidences[place],", "confidence=max(found.probabilities[place]),",
        "unit/serving/test_traffic.py::test_a_shadow_is_logged_and_never_given",
    ),
    _service(
        "confidence of the most probable class from the cache", "serving/cache.py",
        "row[self.classes.index(best)] for best, row", "max(row) for _best, row",
        "unit/serving/test_cache.py::test_the_confidence_of_a_kept_answer_is_that_of_its_class",
    ),
    _code(
        "confidence of the most probable class in a score", "scoring/store.py",
        '"confidence": confidence,', '"confidence": max([confidence, *probabilities]),',
        "unit/scoring/test_store.py::test_the_confidence_of_a_score_is_that_of_its_class",
    ),
    _code(
        "confidence of the most probable class in a file", "model/scorer.py",
        "np.array(self.confidences, dtype=np.float64)", "table.max(axis=1, numeric_only=True)",
        "unit/model/test_scorer.py::test_a_threshold_decides_and_is_kept",
    ),
    _service(
        "champion that is swapped in without the cache", "serving/runtime.py",
        "champion=self._prepared(served))", "champion=served)", CACHED,
    ),
    _service(
        "challenger without the cache", "serving/runtime.py",
        "Split(self.served, self._prepared(running.served), assigned)", "Split(self.served, running.served, assigned)", CACHED,
    ),
    _service(
        "predictions of a file counted for a run instead of a variant", "serving/requests/files.py",
        "frame.model_version, frame.variant, strict", "frame.model_version, frame.run_id, strict",
        "unit/serving/test_uploads.py::test_a_file_is_scored_like_in_batch",
    ),
    _service(
        "records counted as predictions", "serving/prediction_log/shipper.py",
        "self._accepted(sent)", "self._accepted(len(rows))",
        "unit/serving/test_shipper.py::test_predictions_are_counted_and_not_their_records",
    ),
    _service(
        "RabbitMQ's requests lost when it is restarted", "serving/broker.py",
        "RabbitQueue(names.requests, durable=True)", "RabbitQueue(names.requests, durable=False)", OUTLIVES,
    ),
    _service(
        "RabbitMQ's answers lost when it is restarted", "serving/broker.py",
        "RabbitQueue(each, durable=True)", "RabbitQueue(each, durable=False)", OUTLIVES,
    ),
    _service(
        "answers that RabbitMQ keeps in memory only", "serving/broker.py",
        'publish={"persist": True, ', 'publish={"persist": False, ', OUTLIVES,
    ),
    _service(
        "messages of before the first consumer that Kafka does not deliver", "serving/broker.py",
        'auto_offset_reset="earliest"', 'auto_offset_reset="latest"',
        f"{KINDS}::test_a_first_consumer_reads_what_was_sent_before",
    ),
    _service(
        "message acknowledged as it is received", "serving/broker.py",
        "ack_policy=AckPolicy.MANUAL", "ack_policy=AckPolicy.ACK_FIRST",
        f"{KINDS}::test_a_message_waits_for_its_acknowledgement",
    ),
    _service(
        "password of a broker whose group is gone", "serving/broker.py",
        'where=urls.masked(url),\n            hint="start this again"', 'where=url,\n            hint="start this again"',
        f"{KINDS}::test_the_end_of_a_group_is_told_without_the_password",
    ),
    _service(
        "messages whose times count for nobody", "serving/broker.py",
        "time.monotonic() - began, result.variant)", "time.monotonic() - began)",
        f"{KINDS}::test_a_message_is_answered_and_poison_dead_lettered",
    ),
    _service(
        "later answer that names the champion only", "serving/requests/answering.py",
        "model_version=answer.model_version, variant=answer.variant)", 'model_version=answer.model_version, variant="champion")',
        "unit/serving/test_requests.py::test_an_answer_names_all_who_gave_it",
    ),
    _code(
        "deployment on record that replaced nothing", "stages/deployment.py",
        "info, before=deployment.before,", "info, before=None,",
        "integration/deployment/test_release.py::test_the_report_says_what_was_promoted_and_what_was_champion_before",
    ),
    _code(
        "recorded tag that runs on a Docker host", "deployment/compose.py",
        "image = require_digest(tag)", "image = tag or require_digest(tag)", UNTAGGED,
    ),
    _service(
        "process that closes connections before its clients do", "serving/launch.py",
        '        "--timeout-keep-alive",\n        str(KEEP_ALIVE_SECONDS),\n', "",
        "unit/serving/test_launch.py::test_a_service_keeps_connections_open_as_long_as_in_its_image",
    ),
    _code(
        "predictions that are cut to fit their columns", "store/engine.py",
        "{_session(f'{_SQL_MODE},NO_BACKSLASH_ESCAPES')}", "{_session('NO_BACKSLASH_ESCAPES')}", STRICT,
    ),
    _code(
        "sessions in the time zone of the server", "store/engine.py",
        "SET time_zone='+00:00', sql_mode", "SET sql_mode", STRICT,
    ),
    _code(
        "reads that see what they saw first", "store/engine.py",
        'ISOLATION = "READ COMMITTED"', 'ISOLATION = "REPEATABLE READ"', STRICT,
    ),
    _code(
        "manifests that name the newest version instead of the champion", "stages/deployment.py",
        "version = open_registry(settings).champion().version", "version = open_registry(settings).versions()[0].version", MANIFESTS,
    ),
    _code(
        "manifests of a version with the champion's image", "stages/deployment.py",
        "        image = released_image(settings, version=version)\n", "        image = released_image(settings)\n", MANIFESTS,
    ),
    _code(
        "store without its log that is called up to date", "stages/data.py",
        "return migrations.restore(settings.store_url, found.contract)", "return ()",
        "unit/store/test_migrations.py::test_a_table_that_is_gone_is_created_again",
    ),
    _code(
        "performance of the days of UTC", "stages/scoring.py",
        "zone=settings.zone,\n        slices=", 'zone=settings.model_copy(update={"timezone": "UTC"}).zone,\n        slices=', MIDNIGHT,
    ),
    _code(
        "drift of the days of UTC", "stages/scoring.py",
        "zone=settings.zone,\n        limits=", 'zone=settings.model_copy(update={"timezone": "UTC"}).zone,\n        limits=',
        "unit/stages/test_handed_on.py::test_a_stage_hands_on_what_it_is_given",
    ),
    _code(
        "export of the days of UTC", "stages/scoring.py",
        "zone=settings.zone,\n        chunk_rows=", 'zone=settings.model_copy(update={"timezone": "UTC"}).zone,\n        chunk_rows=',
        "unit/stages/test_handed_on.py::test_a_stage_hands_on_what_it_is_given",
    ),
    _code(
        "export that BigQuery cannot load", "stages/scoring.py",
        "        bigquery.require_loadable(contract, folder)\n", "        pass\n",
        "unit/store/test_warehouse.py::test_nothing_is_exported_that_bigquery_cannot_load",
    ),
    _code(
        "text that is another category in a request than in a file", "contract/payload.py",
        "strip_whitespace=True", "strip_whitespace=False", "unit/contract/test_payload.py::test_a_text_is_read_as_in_a_file",
    ),
    _code(
        "separator of a file that is dropped around a text there only", "store/conversion.py",
        "pc.utf8_trim(cells[name], WHITESPACE)", "pc.utf8_trim_whitespace(cells[name])",
        "unit/contract/test_payload.py::test_whitespace_is_the_same_for_requests_and_files",
    ),
    _code(
        "text whose rules count the whitespace around it", "contract/payload.py",
        "        kind = Annotated[str, StringConstraints(strip_whitespace=True)]\n    annotation: Any = Annotated[kind, Field(**constraints)]\n",
        "        kind = Annotated[str, Field(**constraints), AfterValidator(str.strip)]\n    annotation: Any = kind if column.pattern else Annotated[kind, Field(**constraints)]\n",
        "unit/contract/test_payload.py::test_the_rules_of_a_text_are_those_of_what_is_kept",
    ),
    _code(
        "synthetic rows without a label that a draft is judged by", "drafts/check.py",
        "    return labelled(frame, contract)\n", "    return frame\n",
        "unit/drafts/test_init.py::test_rows_without_a_label_are_no_reason_to_refuse",
    ),
    _code(
        "value of the data that a terminal obeys", "cli/output.py",
        "super().print(*(visible(each) if", "super().print(*(each if",
        "unit/cli/test_output.py::test_no_text_controls_the_terminal",
    ),
    _code(
        "summary that waits for a reader", "cli/output.py", "        require_regular(path)\n", "        pass\n",
        "unit/cli/test_output.py::test_a_summary_is_written_to_a_file_only[device]",
    ),
    _code(
        "empty argument that is the current folder", "cli/app.py", "            if param.type_descriptor.is_path:\n", "            if False:\n",
        "unit/cli/test_command_line.py::test_an_empty_path_is_one_that_is_not_given",
    ),
    _code(
        "empty setting that is the current folder", "settings.py", '.get_default() if value == "" else value', ".get_default() if value is None else value",
        "unit/test_settings.py::test_an_empty_path_is_one_that_is_not_set",
    ),
    _code(
        "Bento with which no service starts", "deployment/bento.py", "    _ = instance.traffic\n", "",
        "unit/serving/test_bento.py::test_an_instance_that_no_service_starts_with_is_not_built",
    ),
    _code(
        "Bento of a model that no service starts with", "deployment/bento.py",
        "    load_scorer(scorer_folder, contract)\n", "",
        "unit/serving/test_bento.py::test_a_model_that_does_not_fit_the_contract_is_not_built",
    ),
    Defect(
        name="interrupt after which no service of the machine starts", area=Area.CODE,
        gate=Tests("tests/unit/test_promises.py::test_a_script_that_is_interrupted_leaves_nothing_behind"),
        plant=_edit("scripts/install-server.sh", "    trap 'exit 130' HUP INT TERM", "   "),
    ),
    Defect(
        name="password that a full disk cuts short and that is kept", area=Area.CODE,
        gate=Tests("tests/unit/test_compose.py::test_a_full_disk_leaves_no_part_of_a_password"),
        plant=_edit("scripts/make-env.sh", "'rm -f \"$new\"'", "'mv \"$new\" \"$file\"'"),
    ),
    Defect(
        name="passwords that a second run at the same time loses", area=Area.CODE,
        gate=Tests("tests/unit/test_compose.py::test_two_runs_at_once_lose_no_password"),
        plant=_edit("scripts/make-env.sh", "set -o noclobber && ", ""),
    ),
    Defect(
        name="hooks that are not installed without a reason", area=Area.CODE,
        gate=Tests("tests/unit/deployment/test_scripts.py::test_the_hooks_are_installed_in_a_repository"),
        plant=_edit("scripts/install-hooks.sh", "--install-hooks", "--install-hooks >/dev/null"),
    ),
    _code(
        "good Bento that goes before the new one is complete", "deployment/bento.py",
        '{"BENTOML_HOME": str(home)}', "{}; shutil.rmtree(settings.bentoml_home / \"bentos\")",
        "unit/serving/test_bento.py::test_a_build_that_fails_leaves_the_bento_that_is_there",
    ),
    _code(
        "consumer that waits for a thread of a challenger that hangs", "cli/__init__.py",
        "        os._exit(code)\n    sys.exit", "        pass\n    sys.exit",
        f"{SHIPPED}::test_a_thread_of_a_challenger_does_not_prevent_a_consumer_from_ending",
    ),
    _code(
        "shipping that waits for a thread of a challenger that hangs", "serving/prediction_log/shipping.py",
        "    os._exit(0)\n", "",
        f"{SHIPPED}::test_a_thread_of_a_challenger_does_not_prevent_the_process_from_ending",
    ),
    _code(
        "policy with lists in lists that is taken for a bug", "contract/policy_file.py", "(ValueError, RecursionError)", "ValueError",
        "unit/promotion/test_policy.py::test_unreadable_policy_is_named",
    ),
    Defect(
        name="second Ctrl-C that leaves Airflow behind", area=Area.CODE,
        gate=Tests("tests/unit/dags/test_stack.py::test_only_the_first_interrupt_counts"),
        plant=_edit("scripts/airflow_stack.py", "            signal.signal(number, signal.SIG_IGN)\n", "            pass\n"),
    ),
    Defect(
        name="Ctrl-C while Airflow ends that leaves the rest of it behind", area=Area.CODE,
        gate=Tests("tests/unit/dags/test_stack.py::test_an_interrupt_while_it_ends_leaves_no_process_behind"),
        plant=_edit("tests/support/airflow_stack.py", "        for process in processes.values():\n            process.kill()\n", ""),
    ),
    _code(
        "links that lead to each other and are taken for a bug", "cli/app.py",
        "isinstance(error, RuntimeError) and ", "False and ",
        "unit/cli/test_command_line.py::test_links_that_lead_to_each_other_are_one_line",
    ),
    _code(
        "full disk that is taken for a bug", "cli/app.py", "isinstance(error, shutil.Error) and ", "isinstance(error, KeyError) and ",
        "unit/cli/test_command_line.py::test_a_folder_that_cannot_be_copied_is_one_line",
    ),
    _code(
        "output that is lost unseen", "cli/app.py", "            _require_written()\n", "            pass\n",
        "integration/cli/test_streams.py::test_a_full_disk_behind_the_output_is_told",
    ),
    _code(
        "export that BigQuery never loads", "stages/scoring.py",
        "    return bigquery.load_days(contract, report, settings.bigquery, progress=progress)\n", "    return report\n",
        "unit/stages/test_handed_on.py::test_what_is_exported_is_loaded_into_bigquery",
    ),
    _code(
        "late prediction that never reaches the warehouse", "store/warehouse.py",
        "            if complete is None:", "            if not present:", LATE,
    ),
    _code(
        "file removed from the warehouse with rows that the log has lost", "store/warehouse.py",
        " and int(named[1]) <= held_until(int(named[2]))", "",
        "unit/store/test_warehouse.py::test_a_file_with_rows_that_the_log_has_lost_stays_beside_later_ones",
    ),
    _code(
        "prediction that the warehouse loads twice", "store/warehouse.py",
        "ON logged.request_id = exported.request_id", "ON false",
        "unit/store/test_warehouse.py::test_every_field_of_every_prediction_arrives_once",
    ),
    _code(
        "part of a day that passes for all of it", "store/warehouse.py",
        'part = f"{path}.{secrets.token_hex(4)}{_PART}"', 'part = f"{path.removesuffix(\'x\')}"',
        "unit/store/test_warehouse.py::test_a_folder_that_fails_loses_nothing",
    ),
    _code(
        "stage that keeps another number of days than the setting", "stages/data.py",
        "keep_days=settings.snapshot_keep_days", "keep_days=settings.snapshot_keep_days - 1",
        KEPT,
    ),
    _code(
        "rows without a date that are of the day in UTC", "stages/data.py",
        "        today=settings.today(),\n", "",
        "unit/stages/test_days.py::test_rows_without_a_date_are_of_the_day_of_their_ingest",
    ),
    _service(
        "time of the first request of a batch logged for all", "serving/predictor.py",
        "[(part.at - waiting.started) * 1_000 for", "[(part.at - batch[0].started) * 1_000 for",
        "unit/serving/test_predictor.py::test_each_answer_of_a_batch_has_its_own_time",
    ),
    _service(
        "header that names the model in service, not the one that answered", "serving/http/middleware.py",
        "version = trace.model_version or self._version()", "version = self._version()", OVERTAKEN,
    ),
    _service(
        "prediction counted for the model in service, not the one that answered", "serving/http/handlers.py",
        "predicted(answer.prediction, answer.model_version, ", "predicted(answer.prediction, self.runtime.served.version, ",
        OVERTAKEN,
    ),
    _service(
        "rounded confidences in the log of a batch", "serving/batch_predictor.py",
        "predictions=part.predictions,",
        f"predictions={CHANGED} confidences=[round(each, 4) for each in part.predictions.confidences]),", FIELDS,
    ),
    _service(
        "always the first class in the log of a batch", "serving/batch_predictor.py",
        "predictions=part.predictions,",
        f"predictions={CHANGED} classes=[part.served.scorer.classes[0]] * len(part.places)),", FIELDS,
    ),
    _service(
        "name of the model logged as its run", "model/served.py",
        "run_id=self.info.run_id", "run_id=self.info.model_name", FIELDS,
    ),
    _service(
        "probabilities of a request logged in another order", "serving/predictor.py",
        "predictions=part.predictions,",
        f"predictions={CHANGED} class_order=part.predictions.class_order[::-1]),", FIELDS,
    ),
    _service(
        "probabilities of a batch logged in another order", "serving/batch_predictor.py",
        "predictions=part.predictions,",
        f"predictions={CHANGED} class_order=sorted(part.predictions.class_order)),", FIELDS,
    ),
    _service(
        "image that answered not logged", "serving/runtime.py",
        "served_by = settings.served_by or _bento()", "served_by = _bento()", FIELDS,
    ),
    _code(
        "probabilities of batch scores in another order", "scoring/store.py",
        '"probabilities": dict(zip(predictions.class_order, ', '"probabilities": dict(zip(predictions.class_order[::-1], ',
        "integration/scoring/test_scoring.py::test_the_newest_row_of_each_group_is_scored_once",
    ),
    _code(
        "row left out because one before it was replaced meanwhile", "scoring/store.py",
        "query.where(place > found[-1][: len(keys)])", "query.offset(1)",
        "integration/scoring/test_scoring.py::test_what_is_ingested_meanwhile_hides_no_row",
    ),
    _code(
        "scores of rows without a key that were replaced meanwhile", "scoring/store.py",
        "if contract.key.filled and set(", "if not contract.key.filled and set(",
        "integration/scoring/test_scoring.py::test_rows_without_a_key_that_are_replaced_meanwhile_get_no_scores",
    ),
    _code(
        "rows of a range that are ranked again for each chunk", "scoring/store.py",
        "connection.execute(following, ", "connection.execute(following.limit(chunk_rows), ",
        "unit/scoring/test_store.py::test_the_rows_of_a_range_are_ranked_once",
    ),
    _code(
        "any share of bad rows accepted in the store", "scoring/store.py",
        "        scored.rejected,\n        newest,\n", "        0,\n        newest,\n",
        "integration/scoring/test_scoring.py::test_the_share_of_bad_rows_is_that_of_all_newest_rows",
    ),
    _code(
        "bad row scored with the others of its task", "scoring/files.py",
        "if len(good) < len(inputs):", "if len(good) > len(inputs):", f"{ON_SPARK}bad_rows_are_rejected_with_their_reasons",
    ),
    _code(
        "first row of each range of keys left out", "scoring/spark.py",
        "[column >= self.low]", "[column > self.low]", f"{ON_SPARK}a_table_is_scored_as_in_one_process",
    ),
    _code(
        "predictions of the champion before kept as those of this one", "scoring/spark.py",
        "[contents, vars(self.origin), version,", "[contents, version,",
        f"{ON_SPARK}a_second_run_changes_nothing_and_scores_nothing",
    ),
    _code(
        "work of a killed run done again", "scoring/spark.py",
        "    if done.is_file():", "    if not done:", f"{ON_SPARK}a_killed_run_is_continued",
    ),
    _code(
        "any share of bad rows accepted on Spark", "scoring/spark.py",
        "require_few(scored.rejected, scored.rows,", "require_few(0, scored.rows,",
        f"{ON_SPARK}too_many_bad_rows_are_refused",
    ),
    _code(
        "lines of rejected rows that begin again with each file", "scoring/spark.py",
        "lines=part.lines + task.before", "lines=part.lines", f"{ON_SPARK}files_of_a_folder_are_one_source",
    ),
    _code(
        "lines of rejected rows that begin again with each task", "store/sources.py",
        "for each in range(groups.start))", "for each in range(0))", f"{ON_SPARK}bad_rows_are_rejected_with_their_reasons",
    ),
    _code(
        "somebody's folder replaced by predictions", "scoring/output_folder.py",
        "self.path.is_dir() and not any(self.path.iterdir())", "self.path.is_dir() and not (self.path / REPORT_FILE).exists()",
        f"{ON_SPARK}what_is_no_folder_of_predictions_stays",
    ),
    _code(
        "folder of another run deleted by one with a shorter name", "scoring/output_folder.py",
        "if each.is_dir() and name.fullmatch(each.name)]", "if each.is_dir() and each.name.startswith(f\".{self.path.name}.\")]",
        f"{ON_SPARK}folders_of_others_stay",
    ),
    _code(
        "predictions lost between two renames", "scoring/output_folder.py",
        'if each.suffix == ".old" and not self.path.exists():', 'if each.suffix == ".old" and self.path.exists():',
        f"{ON_SPARK}a_kill_between_two_renames_loses_no_predictions",
    ),
    _code(
        "folder lost to a kill between two renames", "files.py",
        "if old.exists() and not path.exists():", "if False:",
        "unit/test_files.py::test_a_kill_while_a_folder_is_replaced_loses_nothing",
    ),
    _code(
        "incomplete folder of predictions taken for a complete one", "scoring/output_folder.py",
        "report if rejected and complete", "report if rejected or complete", f"{ON_SPARK}what_was_deleted_is_made_again",
    ),
    _code(
        "new rows left out after a quarantined one", "scoring/store.py",
        "good = frame.iloc[valid_rows(len(frame), broken)]", "good = frame.iloc[valid_rows(len(frame), broken)][len(broken) :]",
        f"{ON_SPARK}new_rows_that_break_the_contract_are_quarantined_once",
    ),
    _code(
        "answers of a version computed by the one that has its number now", "scoring/replay.py",
        "if each.run_id == run_id or (not run_id and each.version == version):", "if each.version == version:",
        "unit/scoring/test_replay.py::test_a_version_is_its_training_run_and_not_its_number",
    ),
    _code(
        "replay that compares probabilities in the order of the log", "scoring/replay.py",
        "[row[\"probabilities\"].get(name, np.nan) for name in classes]", "list(row[\"probabilities\"].values())[: len(classes)]",
        "unit/scoring/test_replay.py::test_every_difference_is_reported",
    ),
    _code(
        "replay that takes a small difference for none", "scoring/replay.py",
        "(np.abs(logged - again) <= TOLERANCE)", "(np.abs(logged - again) <= 1e-8)",
        "unit/scoring/test_replay.py::test_every_difference_is_reported",
    ),
    _code(
        "part of a request id taken for a batch", "store/prediction_log.py",
        "digits if _UUID.fullmatch(digits) else None", "digits",
        "unit/scoring/test_replay.py::test_a_part_of_an_id_chooses_nothing",
    ),
    _code(
        "bad row that keeps those beside it from being computed again", "scoring/replay.py",
        "if len(rows) > 1:", "if False:",
        "unit/scoring/test_replay.py::test_one_row_that_cannot_be_computed_keeps_no_other_from_it",
    ),
    _code(
        "history without the champion that was deployed again", "registry/versions.py",
        "if each.what in {What.PROMOTED, What.ROLLED_BACK}}", "}",
        "unit/registry/test_versions.py::test_a_promotion_from_before_the_record_is_known_until_the_next_one",
    ),
    _code(
        "history of a day in UTC", "stages/audit.py",
        "given.replace(tzinfo=zone)", 'given.replace(tzinfo=ZoneInfo("UTC"))',
        "unit/stages/test_audit.py::test_a_day_is_that_of_the_zone_from_midnight_to_midnight",
    ),
    _code(
        "history in which a version that was replaced goes on answering", "monitoring/answering.py",
        "if _parallel_variant(time) not in ended} | now", "} | now",
        "unit/monitoring/test_answering.py::test_a_version_answers_until_only_others_do",
    ),
    _code(
        "promotion that is on no record", "registry/versions.py",
        "        self._history.record(\n"
        "            What.PROMOTED, info.version, info.run_id, before=before.version if before else None, why=reason\n        )\n",
        "",
        "integration/promotion/test_registry.py::test_every_change_of_the_champion_is_on_record_with_who_and_why",
    ),
    _code(
        "deployment recorded without its reason", "stages/deployment.py",
        "reason=reason, target=place,", 'reason="", target=place,',
        "unit/deployment/test_deployed_image.py::test_a_deployment_runs_and_records_the_given_digest",
    ),
    _code(
        "earlier records that cannot be read without probabilities", "serving/prediction_log/records.py",
        'unknown | {"probabilities": [None] * len(record["rows"])} | record', "unknown | record",
        "unit/serving/test_shipper.py::test_records_of_every_earlier_version_are_read",
    ),
    _service(
        "time of the shipping logged as that of the answer", "serving/prediction_log/records.py",
        "created_at=created_at,", "created_at=datetime.now(created_at.tzinfo),", FIELDS,
    ),
    _service(
        "seconds logged as milliseconds of a batch", "serving/batch_predictor.py",
        "(part.at - started) * 1_000]", "(part.at - started)]", DELAY,
    ),
    _service(
        "seconds logged as milliseconds of a request", "serving/http/middleware.py",
        "round(elapsed * 1_000, 3)", "round(elapsed, 3)", DELAY,
    ),
    _service(
        "description of the model that answered first", "serving/http/handlers.py",
        '        """Return how the model was trained."""\n        served = self.runtime.served',
        '        """Return how the model was trained."""\n'
        '        served = self.__dict__.setdefault("_described", self.runtime.served)',
        ROUTES,
    ),
    _service(
        "batches answered by the model of the start", "serving/runtime.py",
        "lambda: self.predictor.models, served_by", "lambda: Models(served), served_by", ROUTES,
    ),
    _service(
        "batches counted for the model of the first one", "serving/http/handlers.py",
        "self._counters.predicted(prediction, version, variant, rows)",
        'self._counters.predicted(prediction, self.__dict__.setdefault("_first", version), variant, rows)', ROUTES,
    ),
    _service(
        "answer of a shadow that is given", "serving/runtime.py",
        "if running is None or running.experiment.mode is Mode.SHADOW:", "if running is None:",
        f"{TRAFFIC}::test_a_shadow_is_logged_and_never_given",
    ),
    _service(
        "hash without a salt", "contract/traffic.py", 'f"{salt}:{group}"', 'f"{group}"',
        f"{POLICY}::test_each_experiment_chooses_other_groups",
    ),
    _service(
        "share of a canary that is off by ten", "contract/traffic.py", "< share * 2**64", "< share / 10 * 2**64",
        f"{POLICY}::test_a_hash_chooses_its_share_of_the_groups",
    ),
    _service(
        "challenger that the log takes for the champion", "model/served.py",
        "variant=self.variant,", "variant=Variant.CHAMPION,", f"{TRAFFIC}::test_a_canary_answers_its_groups",
    ),
    _service(
        "challenger that the metrics take for the champion", "serving/http/handlers.py",
        "answer.model_version, answer.variant)", 'answer.model_version, "champion")',
        f"{TRAFFIC}::test_a_canary_answers_its_groups",
    ),
    _service(
        "condition on a column that is gone", "contract/traffic.py", "    policy.router(contract)\n", "",
        f"{POLICY}::test_what_cannot_be_meant_is_refused",
    ),
    _service(
        "condition that names a column that is gone", "contract/conditions.py",
        "if name not in self._columns:", "if not name:", f"{POLICY}::test_what_is_no_condition_over_the_contract_is_refused",
    ),
    _service(
        "last condition that decides", "contract/traffic.py", "for meets, alias in conditions if", "for meets, alias in conditions[::-1] if",
        f"{POLICY}::test_the_first_route_whose_condition_is_met_decides",
    ),
    _service(
        "step that each worker takes when it hears of it", "serving/traffic.py",
        "experiment.share if now >= begins else experiment.before", "experiment.share",
        f"{TRAFFIC}::test_a_canary_answers_its_groups",
    ),
    _service(
        "step that a worker takes late and says nothing of", "serving/champion/challenger.py",
        "if new and self._began < begins < (now := time.time()):", "if new and self._began > begins > (now := time.time()):",
        f"{TRAFFIC}::test_a_worker_that_applies_a_step_late_says_so",
    ),
    _service(
        "end that a worker learns of late and says nothing of", "serving/champion/challenger.py",
        "if seconds > LEAD_SECONDS:", "if seconds < -LEAD_SECONDS:", f"{TRAFFIC}::test_a_worker_that_learns_late_of_the_end_says_so",
    ),
    _service(
        "silence of the registry taken for its answer", "serving/champion/challenger.py",
        "if named.looked_at and not named.error:", "if named.looked_at:", f"{TRAFFIC}::test_a_worker_that_learns_late_of_the_end_says_so",
    ),
    _service(
        "step from before a worker's start that it counts as late", "serving/champion/challenger.py",
        "self._began = time.time()", "self._began = 0.0", f"{TRAFFIC}::test_a_worker_that_applies_a_step_late_says_so",
    ),
    _service(
        "duration of a request without its variant", "serving/http/middleware.py", "status, elapsed, trace.variant)", "status, elapsed)",
        "unit/serving/test_service.py::test_the_metrics_count_what_happened",
    ),
    _service(
        "answer of the broker without its variant", "serving/broker.py", '{"x-variant": result.variant}', "{}",
        "broker/test_kinds.py::test_a_message_is_answered_and_poison_dead_lettered",
    ),
    _service(
        "challenger that begins when the champion has ended", "serving/traffic.py",
        """        challenged = self._challenge(rows, mine) if mine else None
        parts = [_part(self.champion, rows, others)] if others else []
""",
        """        parts = [_part(self.champion, rows, others)] if others else []
        challenged = self._challenge(rows, mine) if mine else None
""",
        f"{TRAFFIC}::test_the_time_of_an_answer_is_that_of_its_own_model",
    ),
    _service(
        "champion whose time is taken when the challenger has ended", "serving/traffic.py",
        "return parts + challenged() if challenged else parts",
        "return [replace(part, at=time.perf_counter()) for part in challenged() + parts] if challenged else parts",
        f"{TRAFFIC}::test_the_time_of_an_answer_is_that_of_its_own_model",
    ),
    _service(
        "row of a batch that does not name its model", "serving/batch_predictor.py",
        'named = {} if other == version else {"model_version": other}', "named: dict[str, str] = {}",
        f"{TRAFFIC}::test_a_canary_answers_its_groups",
    ),
    _service(
        "challenger whose failure is the client's", "serving/traffic.py", "            if not left:\n", "            if True:\n",
        f"{TRAFFIC}::test_a_challenger_that_fails_leaves_the_answer_to_the_champion",
    ),
    _service(
        "row that makes all of its batch an error of the challenger", "serving/traffic.py", "if half and time", "if False and time",
        f"{TRAFFIC}::test_a_challenger_that_fails_leaves_the_answer_to_the_champion",
    ),
    _service(
        "champion that waits for a challenger that hangs", "serving/loops.py", "ended.get(timeout=seconds)", "ended.get()",
        f"{TRAFFIC}::test_a_challenger_that_hangs_holds_up_nobody",
    ),
    _service(
        "batch that waits behind one on which the challenger hangs", "serving/loops.py", "if self._running:", "if False:",
        f"{TRAFFIC}::test_a_challenger_that_hangs_holds_up_nobody",
    ),
    _service(
        "thread of a challenger that never ends", "serving/loops.py", "        self._given.put(None)\n", "        pass\n",
        f"{TRAFFIC}::test_the_thread_of_a_challenger_ends_with_it",
    ),
    _service(
        "challenger that goes on while the champion cannot be fetched", "serving/champion/poller.py",
        "        finally:\n            if self.challenger:\n", "        finally:\n            if self.challenger and champion:\n",
        f"{TRAFFIC}::test_the_poller_fetches_the_challenger_beside_the_champion",
    ),
    _service(
        "worker that answers before it knows the challenger", "serving/runtime.py", "        found.check()\n", "",
        f"{TRAFFIC}::test_a_worker_that_starts_knows_the_challenger_before_it_answers",
    ),
    _service(
        "shadow that takes all it is given", "serving/prediction_log/shadow.py", "WAITING_ROWS - len(self._waiting)", "WAITING_ROWS",
        f"{TRAFFIC}::test_a_shadow_that_is_late_drops_rows_and_counts_them",
    ),
    _service(
        "shadow that counts as an answer", "store/prediction_log.py",
        "(Variant.SHADOW, Variant.SHADOW_FAILED)))", "(Variant.SHADOW_FAILED,)))", SHADOWED,
    ),
    _service(
        "failure of a shadow that counts as an answer", "store/prediction_log.py",
        "(Variant.SHADOW, Variant.SHADOW_FAILED)))", "(Variant.SHADOW,)))", SHADOWED,
    ),
    _service(
        "failure of a shadow that is not logged", "serving/prediction_log/shadow.py",
        'outcome, answers = "failed", [_failure(rows[0])]', 'outcome, answers = "failed", []',
        f"{TRAFFIC}::test_a_shadow_that_fails_is_counted_and_holds_up_nothing",
    ),
    _service(
        "shadow that does not hear of its end while rows wait", "serving/prediction_log/shadow.py",
        "            self._challenger.check()\n", "            if not self._waiting:\n                self._challenger.check()\n",
        f"{TRAFFIC}::test_a_shadow_that_is_always_late_hears_of_its_end",
    ),
    _service(
        "shadow that may take any time", "serving/prediction_log/shadow.py",
        "> PATIENCE * len(rows)", "> PATIENCE * 1_000_000",
        f"{TRAFFIC}::test_a_shadow_that_a_canary_would_not_wait_for_has_failed",
    ),
    _service(
        "store that is away taken for a failure of the challenger", "serving/prediction_log/shadow.py",
        '            outcome = "dropped"\n', '            outcome = "failed"\n',
        f"{TRAFFIC}::test_what_the_store_does_not_accept_is_no_failure_of_the_challenger",
    ),
    _code(
        "bad rows beyond a hundred of a chunk that vanish", "store/ingest.py",
        "[{**self._origin, **row} for row in bad])", "[{**self._origin, **row} for row in bad[:100]])", COUNTS,
        area=Area.DATA,
    ),
    _code(
        "malformed rows not counted as read", "store/ingest.py",
        "self._read += len(frame) + len(chunk.malformed)", "self._read += len(frame)", COUNTS, area=Area.DATA,
    ),
    _code(
        "duplicates taken for quarantined only within a chunk", "store/ingest.py",
        "        frame, found = check(chunk.cells, self._plan.columns",
        "        self._seen = SeenKeys()\n        frame, found = check(chunk.cells, self._plan.columns", COUNTS,
        area=Area.DATA,
    ),
    _service(
        "answers that wait in a cache of the machine", "serving/prediction_log/outbox.py",
        'open_file(path, synchronous="FULL"', 'open_file(path, synchronous="OFF"',
        CRASH,
    ),
    _service(
        "checkpoint that is not on disk before the log is overwritten", "serving/prediction_log/outbox.py",
        'open_file(path, synchronous="NORMAL"', 'open_file(path, synchronous="OFF"',
        CRASH,
    ),
    _service(
        "store that loses what the outbox has deleted", "store/engine.py",
        '"synchronous=FULL"', '"synchronous=NORMAL"', CRASH,
    ),
    _code(
        "export that is deleted from the outbox before it is on disk", "files.py",
        "            sync(unfinished)\n", "            pass\n", SYNCED,
    ),
    _service(
        "part of a file that is accepted before it is on disk", "serving/requests/files.py",
        "        replacing(path, synced=True) as unfinished,\n        pa.OSFile", "        replacing(path) as unfinished,\n        pa.OSFile",
        ON_DISK,
    ),
    _service(
        "result of a file that counts before it is on disk", "serving/requests/files.py",
        "        replacing(path, synced=True) as unfinished,\n        unfinished.open", "        replacing(path) as unfinished,\n        unfinished.open",
        ON_DISK,
    ),
    _service(
        "URL of the store in a line of the process that ships", "serving/prediction_log/shipping.py",
        "    stopping = Event()\n    most",
        '    stopping = Event()\n    __import__("logging").getLogger("ctcd").debug("to %s", settings.store_url)\n    most',
        MARKS,
    ),
    _service(
        "address of the registry in a line of the process that follows it", "serving/champion/poller.py",
        "    loop.start()\n",
        '    __import__("logging").getLogger("ctcd").debug("follow %s", settings.tracking_uri)\n    loop.start()\n',
        MARKS,
    ),
    _service(
        "URL of the cache in a line of the service", "serving/cache.py",
        "    url = settings.cache_url.get_secret_value()\n",
        '    url = settings.cache_url.get_secret_value()\n    logger.debug("answers are kept at %s", url)\n',
        MARKS,
    ),
    _service(
        "token for MLflow in a line of the service", "serving/runtime.py",
        "        tune_interpreter()\n        logger.info(",
        '        tune_interpreter()\n        logger.debug("%s", __import__("os").environ.get("MLFLOW_TRACKING_TOKEN"))\n        logger.info(',
        MARKS,
    ),
    _code(
        "challenger that is heard of too late", "serving/champion/poller.py",
        "least = pause = min(self.seconds, MAX_PAUSE) if self.challenger else self.seconds",
        "least = pause = self.seconds",
        "unit/serving/test_following.py::test_workers_hear_of_a_challenger_before_it_takes_effect",
    ),
    _code(
        "rollback that ignores the version that it is told", "cli/deployment.py",
        "to=to or None", "to=None", OPTIONS,
    ),
    _code(
        "deployment that is never probed", "cli/deployment.py",
        "probed=not no_probe", "probed=False", OPTIONS,
    ),
    _code(
        "image of the champion probed as whatever version", "cli/deployment.py",
        "stages.smoke_image(settings, image, version=version)", "stages.smoke_image(settings, image)", OPTIONS,
    ),
    _code(
        "command that accepts every change of the data", "cli/monitor.py",
        "accept_change=accept_change)", "accept_change=True)", OPTIONS,
    ),
    _code(
        "training that is not repeated although it was asked for", "cli/model.py",
        "force=force", "force=False", OPTIONS,
    ),
    _code(
        "rows of the store replaced unasked", "cli/data.py",
        "replace=replace", "replace=True", OPTIONS,
    ),
    _code(
        "stage that accepts every change of the data", "stages/data.py",
        "        accept_change=accept_change,\n", "        accept_change=True,\n", HANDED_ON,
    ),
    _code(
        "training repeated unasked", "stages/training.py",
        "progress=progress, force=force)", "progress=progress, force=True)", HANDED_ON,
    ),
    _code(
        "training without the policy's threshold", "stages/training.py",
        "        threshold=_threshold(found),\n", "", HANDED_ON,
    ),
    _code(
        "image probed as the champion whatever its version", "stages/deployment.py",
        "return smoke(settings, version=version, url=url)", "return smoke(settings, url=url)",
        "unit/stages/test_handed_on.py::test_the_image_that_is_given_is_probed_as_the_version_that_is_given",
    ),
    _code(
        "probes that compare no answer", "deployment/smoke.py",
        "    if not agrees:", "    if False:", PROBES,
    ),
    _code(
        "probes that accept any confidence", "deployment/smoke.py",
        "model = [expected.confidences[0], *", 'model = [answer["confidence"], *', PROBES,
    ),
    *(
        _code(name, path, old, new, "unit/deployment/test_deployed_image.py::test_what_is_deployed_is_probed_as_its_version_where_clients_ask")
        for name, path, old, new in (
            (
                "probes whose problems stop no deployment", "stages/deployment.py",
                "smoke(settings, version=info.version, url=url).require_passed()",
                "smoke(settings, version=info.version, url=url)",
            ),
            (
                "container that gets requests before it is probed", "deployment/compose.py",
                "                probe(url)\n            self._switch(new", "                pass\n            self._switch(new",
            ),
            (
                "process that is not probed", "deployment/process.py",
                "            self._start(tag, version, digest)\n            probe(deployment.url)\n",
                "            self._start(tag, version, digest)\n",
            ),
        )
    ),
    _code(
        "probes of a release whose problems are told and no failure", "cli/deployment.py",
        "    report.require_passed()\n", "",
        "unit/cli/test_options.py::test_a_command_fails_if_its_stage_reports_a_failure",
    ),
    _code(
        "dead letters that the store refuses and no failure", "cli/outbox.py",
        "    if report.left:\n", "    if False:\n",
        "unit/cli/test_options.py::test_a_command_fails_if_its_stage_reports_a_failure",
    ),
    _code(
        "gate that does not ask the API", "promotion/gate.py",
        "request=request if info.version == version else None,", "request=None,",
        "integration/promotion/test_registry.py::test_better_model_replaces_the_champion_and_worse_does_not",
    ),
    _code(
        "candidate promoted although the API was not asked", "promotion/decision.py",
        "passed=refused == 0,", "passed=not refused,",
        "unit/promotion/test_decision.py::test_a_model_is_refused_if_the_api_was_not_asked",
    ),
    *(
        Defect(name=name, area=Area.WORKFLOW, gate=Tests(f"tests/{ENDS}::{test}"), plant=_edit(path, old, new))
        for name, path, old, new, test in (
            (
                "planted defects that are missed and pass", "tests/prove/__main__.py",
                "return 0 if proven(results) else 1", "return 0", "test_planted_defects_pass_only_if_each_is_caught",
            ),
            (
                "mutants that survive and pass", "tests/prove/mutation.py",
                "return 0 if reached and", "return 0 if mutants or",
                "test_mutation_testing_passes_only_if_all_are_tested_and_enough_are_caught",
            ),
            (
                "mutation testing that failed and passes", "tests/prove/mutation.py",
                "        return 2\n", "        return 0\n",
                "test_mutation_testing_passes_only_if_all_are_tested_and_enough_are_caught",
            ),
            (
                "adoption that fails and passes", "tests/adopt/__main__.py",
                "    return 1 if problems else 0", "    return 0", "test_an_adoption_passes_only_if_all_of_it_does",
            ),
            (
                "updates that fail and pass", "tests/adopt/updates.py",
                "    return 1 if problems else 0", "    return 0", "test_updates_pass_only_if_all_of_them_do",
            ),
            (
                "nightly load test that never fails", "scripts/load_release.py",
                "        return ended.exit_code\n", "        return 0\n",
                "test_a_nightly_load_test_fails_as_the_load_test_does",
            ),
        )
    ),
    Defect(
        name="image that was not built and is released", area=Area.WORKFLOW,
        gate=Tests("tests/unit/deployment/test_image_build.py::test_an_image_that_cannot_be_built_or_looked_at_is_a_failure"),
        plant=_edit("scripts/images.py", "    if done.returncode:\n", "    if done.returncode > 9:\n"),
    ),
    Defect(
        name="hooks that are not installed", area=Area.WORKFLOW,
        gate=Tests("tests/unit/deployment/test_scripts.py::test_the_hooks_are_installed_in_a_repository"),
        plant=_edit("scripts/install-hooks.sh", ".venv/bin/pre-commit install --install-hooks", ":"),
    ),
    _code(
        "rule that nobody has answered and passes", "monitoring/data_monitor.py",
        "if answer is None and rule.expectation is not None:", "if answer is not None and rule.expectation is None:",
        "unit/monitoring/test_data_monitor.py::test_a_rule_that_nobody_has_answered_is_broken", area=Area.DATA,
    ),
    _code(
        "ignored column that takes others along", "monitoring/tolerances.py",
        'feature.startswith(f"{name}: ")', "feature.startswith(name)",
        "unit/monitoring/test_tolerances.py::test_an_ignored_column_is_no_other_one_whose_name_begins_like_it",
    ),
    *(
        _code(name, "monitoring/drift.py", old, new, "unit/monitoring/test_drift.py::test_a_finding_of_a_week_is_of_its_last_day")
        for name, old, new in (
            (
                "finding of a week that is known from before it was over",
                "day=date.fromisoformat(report.last_day)", "day=date.fromisoformat(report.first_day)",
            ),
            (
                "columns that drifted less and are no findings",
                "        for column in report.columns\n        if column.drifted\n",
                "        for column in report.columns[:2]\n        if column.drifted\n",
            ),
        )
    ),
    *(
        _service(name, f"serving/{path}", old, new, f"{TRAFFIC}::{test}")
        for name, path, old, new, test in (
            (
                "shadow of half a request", "prediction_log/shadow.py",
                "row.request_id[:32], experiment.share", "row.request_id, experiment.share",
                "test_a_shadow_takes_all_rows_of_a_request_or_none",
            ),
            (
                "shadow of what the challenger answers itself", "prediction_log/shadow.py",
                ", modes=(Mode.SHADOW,))", ")", "test_a_shadow_takes_part_in_no_other_kind_of_traffic",
            ),
            (
                "route that each worker takes when it hears of it", "traffic.py",
                "now >= begins and alias_of(row)", "alias_of(row)", "test_conditions_choose_who_answers",
            ),
            (
                "answers of a file in the order of the models", "batch_predictor.py",
                "pd.concat(found).sort_index()", "pd.concat(found)", "test_rows_of_a_file_have_their_answers_in_their_order",
            ),
            (
                "rows of a file in the name of the champion", "batch_predictor.py",
                "vars(part.served.origin(self._served_by)))\n            for", "vars(self._models().champion.origin(self._served_by)))\n            for",
                "test_rows_of_a_file_have_their_answers_in_their_order",
            ),
        )
    ),
    _service(
        "dead letters that the store refuses again and that are gone", "stages/outbox.py",
        "outbox.forget(accepted)", "outbox.forget(letters)",
        "unit/serving/test_outbox.py::test_only_what_the_store_accepts_is_no_dead_letter_any_more",
    ),
    _service(
        "dead letters of a dead process that nobody has for a moment", "serving/prediction_log/shipper.py",
        "                    self._outbox.keep(letters)\n                    left.forget(letters)\n",
        "                    left.forget(letters)\n                    self._outbox.keep(letters)\n",
        "unit/serving/test_shipper.py::test_dead_letters_that_cannot_be_adopted_stay_where_they_are",
    ),
    _code(
        "outboxes that may not be read and are taken for none", "stages/outbox.py",
        "in files_in(settings.home / settings.outbox.name, SUFFIX)", 'in sorted(settings.outbox.glob(f"*{SUFFIX}"))',
        "unit/serving/test_outbox.py::test_a_folder_that_cannot_be_read_is_not_one_without_outboxes",
    ),
    _service(
        "exported letters that are deleted before they are on disk", "stages/outbox.py",
        "replacing(to, synced=True)", "replacing(to)",
        "unit/serving/test_outbox.py::test_exported_letters_are_on_disk_before_they_are_deleted",
    ),
    *(
        _code(name, "drafts/check.py", old, new, f"unit/drafts/test_check.py::{test}", area=Area.CONFIGURATION)
        for name, old, new, test in (
            (
                "traffic that nobody has checked before the service starts",
                '        load_traffic(instance.traffic_policy, instance.contract)\n', "        pass\n",
                "test_traffic_that_does_not_fit_is_named",
            ),
            (
                "check that stops at the first wrong profile",
                '            with _noted(found, "training.toml"):\n                load', "            if True:\n                load",
                "test_all_that_is_wrong_with_a_policy_is_listed",
            ),
            (
                "payload that is not asked for missing values",
                "return values + [None] * column.nullable", "return values",
                "test_a_payload_that_refuses_what_a_column_may_be_is_named",
            ),
            (
                "payload that is not asked for one of the bounds",
                "for bound in (column.minimum, column.maximum) if", "for bound in (column.minimum,) if",
                "test_a_payload_that_refuses_what_a_column_may_be_is_named",
            ),
        )
    ),
    *(
        _code(name, "monitoring/site.py", old, new, "unit/monitoring/test_site.py::test_a_snapshot_is_accepted_if_every_check_accepts_it")
        for name, old, new in (
            (
                "snapshot that one of two checks refused and that is shown as accepted",
                'all(row.mark == "good" for row in newest)', 'any(row.mark == "good" for row in newest)',
            ),
            (
                "snapshot that the data monitor refused and that is shown as accepted",
                'broken == 0 if folder == VALIDATION else report["passed"]', "broken == 0 if folder == VALIDATION else True",
            ),
        )
    ),
    *(
        _code(
            name, f"drafts/{path}", old, new,
            "unit/drafts/test_init.py::test_limits_are_where_the_policy_says_that_they_are", area=Area.CONFIGURATION,
        )
        for name, path, old, new in (
            (
                "drafted floor of a class that a model may neglect", "policies.py",
                "round(recall / 2, 2)", "round(recall / 20, 2)",
            ),
            (
                "drafted calibration error that no model exceeds", "policies.py",
                "round(min(0.4, max(0.08,", "round(min(1.0, max(0.9,",
            ),
            (
                "drafted floors of another holdout than that of the training", "draft.py",
                "split_by_group(frame, contract, seed=seed)", "split_by_group(frame, contract, seed=0)",
            ),
        )
    ),
    _code(
        "executor that computes something else", "scoring/spark.py",
        '    verify_probes(scorer, shipped / "model")\n', "", f"{ON_SPARK}a_machine_that_computes_something_else_scores_nothing",
    ),
    *(
        _code(name, "stages/scoring.py", old, new, "unit/stages/test_handed_on.py::test_rows_are_scored_by_the_champion")
        for name, old, new in (
            (
                "rows scored by the newest version", "champion = registry.champion()\n    model",
                "champion = registry.versions()[0]\n    model",
            ),
            ("file for whose name nobody has asked", "return scorer.score_file(path, out)", "return scorer.score_file(path, path)"),
            (
                "chunks of Spark that are no setting", "chunk_rows=settings.ingest_chunk_rows,\n        progress=progress,\n    )\n\n\ndef _origin",
                "chunk_rows=1_000,\n        progress=progress,\n    )\n\n\ndef _origin",
            ),
        )
    ),
    _code(
        "limits of drift that cannot hold and are found by their use only", "monitoring/tolerances.py",
        "if shown > LARGEST_PSI:", "if shown > BINS:",
        "unit/drafts/test_check.py::test_what_does_not_fit_is_named[sample in which no drift shows]",
        area=Area.CONFIGURATION,
    ),
    *(
        _code(
            name, path, old, "",
            "unit/stages/test_handed_on.py::test_a_policy_that_does_not_fit_the_contract_is_not_used",
        )
        for name, path, old in (
            (
                "models judged by the floors of another contract", "promotion/policy.py",
                "    policy.require_contract(instance.contract)\n",
            ),
            (
                "drift by limits that cannot hold", "monitoring/tolerances.py",
                "    found.drift.require_contract(instance.contract)\n",
            ),
        )
    ),
    *(
        _code(f"{whose} page of a refusal in the colour of a pass", path, old, new, f"unit/{test}")
        for whose, path, old, new, test in (
            (
                "gate's", "promotion/page.py", "        good=not failed,\n        facts=(\n            *((\"refused",
                "        good=True,\n        facts=(\n            *((\"refused", "promotion/test_evidence.py::test_failed_rules_come_first",
            ),
            (
                "data monitor's", "monitoring/page.py", "good=report.passed", "good=True",
                "reports/test_reports.py::test_a_page_has_the_colour_of_its_verdict",
            ),
            (
                "validation's", "contract/validation_page.py", "good=not broken", "good=True",
                "reports/test_reports.py::test_a_page_has_the_colour_of_its_verdict",
            ),
        )
    ),
    _code(
        "slices that a page leaves out because they are the worst", "promotion/page.py",
        "for each in judged[:SHOWN_SLICES]", "for each in judged[-SHOWN_SLICES:]",
        "unit/promotion/test_evidence.py::test_a_page_shows_the_worst_slices",
    ),
    *(
        _service(name, "serving/metrics.py", old, new, f"unit/serving/test_metrics.py::{test}")
        for name, old, new, test in (
            (
                "batch that the store refused and nobody counts", "self._failures.inc()", "self._failures.inc(0)",
                "test_an_event_moves_its_own_metric_and_no_other",
            ),
            (
                "refused challenger counted as a refused champion", 'self._challengers.labels("refused").inc()',
                'self._swaps.labels("refused").inc()', "test_an_event_moves_its_own_metric_and_no_other",
            ),
            (
                "gauges of killed workers that stay", "            _drop_dead_gauges(self._folder)\n", "",
                "test_gauges_of_a_process_that_is_gone_count_no_longer",
            ),
        )
    ),
    Defect(
        name="container that is healthy whatever it answers", area=Area.SERVICE,
        gate=Tests("tests/unit/test_healthcheck.py::test_an_unhealthy_service_fails"),
        plant=_edit("docker/healthcheck.py", "if response.status != 200:", "if response.status >= 500:"),
    ),
    _code(
        "one more type that is trusted in a stored pipeline", "model/pipelines.py",
        '    "numpy.dtype",\n', '    "numpy.dtype",\n    "operator.methodcaller",\n',
        "unit/model/test_estimator.py::test_no_other_type_is_trusted_in_a_stored_pipeline",
    ),
    _code(
        "history of which the newest thousand changes are read", "registry/history.py",
        "            if not token:\n", "            if found or not token:\n",
        "unit/registry/test_history.py::test_all_changes_are_read_however_many_there_are",
    ),
    *(
        _code(
            name, "urls.py", old, new, "unit/test_settings.py::test_what_is_shown_holds_no_secret", area=Area.CONFIGURATION
        )
        for name, old, new in (
            ("credential of a cloud in an address that is shown", "|credential(?!_kind)", ""),
            ("login in an address that hides its signs", "_LOGIN.search(unquote(text))", "_LOGIN.search(text)"),
        )
    ),
    _code(
        "rows that the candidate was trained on told as the champion's", "promotion/evidence.py",
        "seen=int(champion.seen.sum())", "seen=int(candidate.seen.sum())",
        "unit/promotion/test_evidence.py::test_every_number_on_the_page_is_the_one_in_the_decision",
    ),
    _code(
        "first verdicts compared, not the last ones", "stages/promotion.py",
        "registry.decisions(version)[-1]", "registry.decisions(version)[0]",
        "unit/stages/test_handed_on.py::test_the_newest_decisions_are_compared",
    ),
    *(
        _code(name, "deployment/compose.py", old, new, f"unit/deployment/test_deployed_image.py::{test}")
        for name, old, new, test in (
            (
                "container that accepts a key that was withdrawn",
                "(before.image, before.settings) == (image, self._settings_digest())", "before.image == image",
                "test_a_container_with_other_settings_is_replaced",
            ),
            (
                "container that is not healthy and stays", "(before and same and before.healthy)", "(before and same)",
                "test_a_container_with_other_settings_is_replaced",
            ),
            (
                "container in place that is not probed", "            self._probe_in_service(probe)\n        return Deployment",
                "            pass\n        return Deployment", "test_a_container_with_other_settings_is_replaced",
            ),
            (
                "container that gets requests although its deployment was given up",
                "        except BaseException:\n            # Also when it is interrupted.\n            with suppress(CtcdError):\n                self._switch_back",
                "        except CtcdError:\n            with suppress(CtcdError):\n                self._switch_back",
                "test_a_container_that_fails_or_is_given_up_leaves_the_one_before",
            ),
        )
    ),
    _code(
        "size of a model without the folders in it", "promotion/gate.py",
        'for path in folder.rglob("*") if path.is_file())', 'for path in folder.glob("*") if path.is_file())',
        "unit/promotion/test_evaluation.py::test_the_size_of_a_model_is_that_of_all_its_files", area=Area.MODEL,
    ),
    _code(
        "snapshot that is never too old", "promotion/evaluation.py",
        'trained_on=_day(version.tags.get("base_dt", ""))', "trained_on=judged_on",
        "unit/promotion/test_evaluation.py::test_evaluation_has_what_the_decision_needs", area=Area.MODEL,
    ),
    _code(
        "version that was rolled back as the next one to promote", "registry/versions.py",
        " and ROLLED_BACK not in each.tags:", ":",
        "unit/registry/test_versions.py::test_what_was_rolled_back_or_refused_is_not_the_newest_that_passed",
    ),
    _code(
        "deployments of other versions in the evidence of one", "promotion/gate.py",
        "if each.artifact and each.run_id == run_id", "if each.artifact",
        f"{REGISTRY}::test_the_evidence_of_a_version_is_that_of_its_own_run",
    ),
    _code(
        "drafts that answer requests as a challenger in production", "stages/traffic.py",
        "    require_confirmed(settings)\n    policy, _ = _policy(settings)\n", "    policy, _ = _policy(settings)\n",
        "unit/stages/test_handed_on.py::test_a_contract_with_drafts_challenges_nobody_in_production",
    ),
    *(
        _code(name, "stages/deployment.py", old, new, f"unit/deployment/test_deployed_image.py::{test}")
        for name, old, new, test in (
            (
                "rollback to an image that nobody has probed", "_artifact(settings, found, target), progress=progress)",
                "_artifact(settings, found, target), probed=False, progress=progress)",
                "test_a_rollback_runs_the_digest_that_was_recorded",
            ),
            (
                "champion that its own failed deployment rolls back", "if move and move.changed:", "if move:",
                "test_a_deployment_that_does_not_end_well_takes_its_own_promotion_back",
            ),
            (
                "promotion that outlives its interrupted deployment",
                "    except BaseException as error:\n        # Also when it is interrupted.\n", "    except CtcdError as error:\n",
                "test_a_deployment_that_does_not_end_well_takes_its_own_promotion_back",
            ),
        )
    ),
    _code(
        "load test without a report that is within its limits", "monitoring/site.py",
        '"no report of a load test", "failed", mark="bad")', '"no report of a load test", "failed")',
        "unit/monitoring/test_site.py::test_a_file_that_is_no_report_of_a_load_test_is_named",
    ),
    _code(
        "branch that does not exist as one without a contract", "cli/contract.py",
        "        raise UsageError(f\"{revision!r} is not a revision of the checkout\", hint=\"give a commit or a branch\")\n",
        "        return None\n",
        "unit/cli/test_command_line.py::test_a_revision_that_does_not_exist_is_not_one_without_a_contract",
        area=Area.WORKFLOW,
    ),
    *(
        _code(name, f"drafts/{path}", old, new, f"unit/drafts/{test}", area=Area.CONFIGURATION)
        for name, path, old, new, test in (
            (
                "drafted floor that the most frequent class of other rows than the holdout reaches", "policies.py",
                "_floor(trivial, found.logistic.accuracy, found)",
                "_floor(found.majority.accuracy, found.logistic.accuracy, found)",
                "test_init.py::test_the_trivial_accuracy_is_that_of_all_rows_if_the_holdout_has_less",
            ),
            (
                "drafted floor that rounding lowers to the score of a trivial model", "policies.py",
                "{2 if gap > 0.01 else 3}f", "2f",
                "test_init.py::test_a_floor_is_above_a_trivial_model_after_rounding",
            ),
            (
                "drafted contract that accepts half of its rows as bad", "draft.py",
                "round(min(2 * share, MAX_QUARANTINE), 2)", "MAX_QUARANTINE",
                "test_init.py::test_the_rows_it_was_drafted_from_are_ingested",
            ),
            (
                "drafted slices in which protected columns come last", "policies.py",
                "key=lambda each: not each.protected)", "key=lambda each: each.protected)",
                "test_init.py::test_truths_and_two_numbers_are_sliced",
            ),
            (
                "leak that is noted only if it is perfect", "columns.py",
                "if right > max(0.97, (1 + most) / 2):", "if right >= 1.0:",
                "test_columns.py::test_a_leak_need_not_be_perfect",
            ),
        )
    ),
    *(
        _service(name, f"serving/{path}", old, new, f"unit/serving/{test}")
        for name, path, old, new, test in (
            (
                "uploads that the request log does not count", "http/handlers.py",
                "trace.rows = await asyncio.to_thread(upload.accept)", "await asyncio.to_thread(upload.accept)",
                "test_log_agreement.py::test_the_request_log_has_the_rows_of_what_is_scored_later",
            ),
            (
                "file whose rows are not in the line of its state", "http/handlers.py", "        trace.rows = state.rows\n", "",
                "test_log_agreement.py::test_the_request_log_has_the_rows_of_what_is_scored_later",
            ),
            (
                "accepted rows that the request log does not count", "http/handlers.py",
                "trace.rows = await self.runtime.batches.check(", "_ = await self.runtime.batches.check(",
                "test_log_agreement.py::test_the_request_log_has_the_rows_of_what_is_scored_later",
            ),
            (
                "result of a file that does not name what served it", "batch_predictor.py",
                ".assign(**vars(part.served.origin(self._served_by)))", ".assign(**vars(part.served.origin(None)))",
                "test_uploads.py::test_a_file_is_scored_like_in_batch",
            ),
            (
                "results of files beyond the size of the queue", "requests/files.py",
                "size = sum(path.stat().st_size for path in paths.values())", "size = 0",
                "test_uploads.py::test_a_file_is_scored_like_in_batch",
            ),
            (
                "files of an answer that the queue does not count", "requests/queue.py",
                "len(result.body) + result.files", "len(result.body)",
                "test_requests.py::test_a_full_queue_accepts_nothing_until_answers_expire",
            ),
            (
                "file that is accepted before its folder is on disk", "requests/files.py",
                "            sync(self._files.folder)\n", "",
                "test_uploads.py::test_the_folder_of_a_file_is_on_disk_before_the_file_is_accepted",
            ),
        )
    ),
    _code(
        "median that is compared with the mean", "monitoring/expectations.py",
        "_around(getattr(known, what), width * known.spread)", "_around(known.mean, width * known.spread)",
        "integration/monitoring/test_data_monitor.py::test_each_statistic_is_compared_with_itself", area=Area.DATA,
    ),
    _service(
        "paths below those of files that are open although there is no such route", "serving/http/routes.py",
        "path.startswith(STATIC) else", 'path.startswith((STATIC, "/predictions/files/")) else',
        "unit/serving/test_access.py::test_no_other_path_is_open",
    ),
    _code(
        "rollout undone that has changed nothing", "deployment/kubernetes.py",
        "        if before == image:\n            return\n        if before is None:", "        if before is None:",
        "unit/deployment/test_kubernetes.py::test_the_image_that_is_in_place_is_not_undone",
    ),
    _code(
        "container that has stopped taken for the one in service", "deployment/compose.py",
        "key=lambda slot: (not slot.running, slot.created)", "key=lambda slot: slot.created",
        "unit/deployment/test_deployed_image.py::"
        "test_a_container_that_runs_is_in_service_rather_than_an_older_one_that_has_stopped",
    ),
    _service(
        "seconds logged as milliseconds of a shadow", "serving/prediction_log/shadow.py",
        "elapsed_ms=seconds * 1_000", "elapsed_ms=seconds",
        f"{TRAFFIC}::test_the_time_of_a_shadows_answer_is_that_of_its_batch",
    ),
    Defect(
        name="model that the gate has refused in an image", area=Area.CONFIGURATION,
        gate=Tests("tests/unit/deployment/test_image_build.py::test_a_model_that_the_gate_has_refused_gets_into_no_image"),
        plant=_edit("scripts/images.py", "        if report.promotion is None:\n", "        if report is None:\n"),
    ),
    _code(
        "day of a shadow alone that keeps the log from getting smaller", "store/warehouse.py",
        "where(log.c.created_at < end, given(log)))", "where(log.c.created_at < end))",
        "unit/store/test_warehouse.py::test_a_day_on_which_only_a_shadow_has_scored_is_not_required", area=Area.DATA,
    ),
    _code(
        "container whose store is a file of the machine that deploys", "deployment/compose.py",
        '        known["FEATURE_STORE_URL"] = self._settings.feature_store_url.get_secret_value()\n', "",
        "unit/deployment/test_deployed_image.py::"
        "test_the_store_of_the_machine_that_deploys_is_not_that_of_the_container",
    ),
    _code(
        "production with the manifests of nowhere", "deployment/kubernetes.py",
        "if settings.environment in (Environment.STAGING, Environment.PRODUCTION) else None",
        "if settings.environment is Environment.STAGING else None",
        "unit/deployment/test_kubernetes.py::test_each_environment_has_its_own_manifests",
    ),
    _code(
        "shares of all rows, rejected ones too", "scoring/store.py", "total = self.counts.total()", "total = self.rows",
        "unit/scoring/test_store.py::test_shares_are_of_the_rows_that_were_scored", area=Area.DATA,
    ),
    _service(
        "invalid row of a batch that is named by its place in a part", "serving/batch_predictor.py",
        "enumerate(rows, start):", "enumerate(rows):",
        "unit/serving/test_batch.py::test_nothing_of_a_refused_batch_is_logged",
    ),
    _code(
        "server whose tables whoever opens it changes", "stages/connections.py",
        'if store.dialect.name != "sqlite":', 'if store.dialect.name == "none":',
        "unit/stages/test_handed_on.py::test_a_server_is_migrated_by_its_own_command_only", area=Area.DATA,
    ),
]  # fmt: skip
