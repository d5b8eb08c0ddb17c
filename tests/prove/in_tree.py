"""Defects that are edits of the source: each is made in a scratch copy, where a test or a command must fail."""

from prove.base import Area, Defect, Edit
from prove.tree import INSTANCE, Command, Tests

SRC = "src/ctcd"
BODIES, COLUMNS = f"{SRC}/contract/payload.py", f"{INSTANCE}/features.py"
DIFF = Command(("contract", "diff", "HEAD"))
LOCK = Command(("contract", "lock", "--check"))


def _edit(path: str, old: str, new: str) -> tuple[Edit, ...]:
    return (Edit(path=path, old=old, new=new),)


def _code(name: str, path: str, old: str, new: str, test: str, *, area: Area = Area.CODE) -> Defect:
    return Defect(name=name, area=area, gate=Tests(f"tests/{test}"), plant=_edit(f"{SRC}/{path}", old, new))


def _payload(name: str, path: str, old: str, new: str, expected: str, *, gate: Command = DIFF) -> Defect:
    return Defect(name=name, area=Area.PAYLOAD, gate=gate, plant=_edit(path, old, new), expected=expected)


DECISION, REGISTRY = "unit/promotion/test_decision.py", "integration/promotion/test_registry.py"
EVIDENCE = "unit/promotion/test_evidence.py"
RULES = "unit/contract/test_rules.py::test_a_contract_that_cannot_work_is_refused_in_one_line"
FORMULAS, DRIFT = "unit/monitoring/test_formulas.py", "unit/monitoring/test_drift.py"
PERFORMANCE = "unit/monitoring/test_performance.py"
RETENTION = "integration/store/test_retention.py"
TRAIN, SNAPSHOT = "integration/training/test_train.py", "unit/store/test_snapshot.py"

TRAINING = [
    _code(
        "rows split at random, not groups", "training/split.py",
        "places[part[position] == index]", "places[np.arange(len(rows)) % 3 == index]",
        "unit/training/test_split.py::test_parts_share_no_group_and_lose_no_row",
    ),
    _code(
        "split that differs between processes", "training/split.py",
        'int.from_bytes(hashlib.blake2b(f"{seed}/{group}".encode(), digest_size=8).digest())',
        'hash(f"{seed}/{group}") % 2**63',
        "unit/training/test_split.py::test_every_process_splits_alike",
    ),
    _code(
        "scaler fitted on all data", "training/train.py",
        "fit_encoder(split.train, contract)", "fit_encoder(pd.concat(split.parts().values()), contract)",
        f"{TRAIN}::test_preprocessing_saw_the_training_part_only",
    ),
    _code(
        "fitting stopped early on the holdout", "training/train.py",
        "for part in (split.train, split.validation)", "for part in (split.train, split.holdout)",
        f"{TRAIN}::test_trials_are_stopped_and_scored_on_the_validation_part",
    ),
    _code(
        "order of the labels permuted in training", "training/trial.py",
        "class_indices(truth, contract.classes)", "class_indices(truth, contract.classes[::-1])",
        "unit/training/test_trial.py::test_a_trial_learns",
    ),
    _code(
        "evaluation on training rows", "training/runs.py",
        "holdout = kept(split.holdout, contract)", "holdout = kept(split.train, contract)",
        f"{TRAIN}::test_groups_that_were_seen_are_not_in_the_holdout",
    ),
    _code(
        "groups of validation not counted as seen", "training/runs.py",
        "pd.concat([split.train[group], split.validation[group]])", "split.train[group]",
        f"{TRAIN}::test_groups_that_were_seen_are_not_in_the_holdout",
    ),
    _code(
        "of equal trials the one that ended first chosen", "training/train.py",
        " or (index < best and not better(trials[best], trial))", "",
        "unit/training/test_search.py::test_of_equal_trials_the_first_of_the_profile_wins",
    ),
    _code(
        "trials that go on after one has failed", "training/train.py",
        "            failed.append(error)\n            raise\n", "            raise\n",
        "unit/training/test_search.py::test_a_trial_that_fails_ends_the_others",
    ),
    _code(
        "worst trial chosen as the best", "training/job.py",
        "return trial.validation.macro_f1 > than.", "return trial.validation.macro_f1 < than.",
        f"{TRAIN}::test_best_of_validation_wins",
    ),
    _code(
        "fingerprint that ignores labels", "training/fingerprint.py",
        "for column in (*contract.row_keys, *contract.model_inputs, contract.label):",
        "for column in (*contract.row_keys, *contract.model_inputs):",
        "unit/training/test_fingerprint.py::test_every_value_matters",
    ),
]  # fmt: skip

MODEL = [
    _code(
        "classes sorted by name in the answer", "model/scorer.py",
        "[self.classes[index] for", "[sorted(self.classes)[index] for",
        "unit/model/test_pyfunc.py::test_answer_has_class_confidence_and_probabilities",
    ),
    _code(
        "classes sorted by name in the file", "model/scorer.py",
        '"classes": self.classes,', '"classes": sorted(self.classes),',
        "unit/model/test_scorer.py::test_saved_scorer_is_whole",
    ),
    _code(
        "threshold that decides in training only", "model/scorer.py",
        "decided(probabilities, self.classes, self.threshold)", "decided(probabilities, self.classes, None)",
        "unit/model/test_scorer.py::test_a_threshold_decides_and_is_kept",
    ),
    _code(
        "threshold that is lost when a model is loaded", "model/scorer.py",
        'Threshold(**data["threshold"]) if "threshold" in data else None', "None",
        "unit/model/test_scorer.py::test_a_threshold_decides_and_is_kept",
    ),
    _code(
        "scores of the training without the threshold", "model/metrics.py",
        "predicted = decided(table, classes, threshold)", "predicted = decided(table, classes, None)",
        "unit/model/test_metrics.py::test_confidence_is_that_of_the_predicted_class",
    ),
    _code(
        "calibration errors that cancel out", "model/metrics.py",
        "np.abs(gap).sum()", "np.abs(gap.sum())",
        "unit/model/test_metrics.py::test_calibration_errors_of_different_bins_do_not_cancel_out",
    ),
    _code(
        "model read by other code than made it", "contract/instance.py",
        "if code_digest(file) == digest:", "if code_digest(file):",
        "unit/model/test_estimator.py::test_a_model_is_not_read_by_other_code",
    ),
    _code(
        "type that is not trusted in a stored pipeline", "model/pipelines.py",
        "_skops().get_untrusted_types(data=content)} - {*TRUSTED}", "[]} - {*TRUSTED}",
        "unit/model/test_estimator.py::test_a_stored_pipeline_holds_no_type_that_is_not_trusted",
    ),
    _code(
        "estimators whose rows and frames differ", "drafts/conformance.py",
        "TOLERANCE = 1e-9", "TOLERANCE = 1.0",
        "unit/drafts/test_conformance.py::test_a_defect_is_refused_by_its_rule",
    ),
    _code(
        "estimator that unpickles what names no class", "drafts/conformance.py",
        'event == "c_call" and function in RUNS_CODE', 'event == "c_call" and function in ()',
        "unit/drafts/test_conformance.py::test_a_defect_is_refused_by_its_rule",
    ),
    _code(
        "estimator whose file tells when it was fitted", "drafts/conformance.py",
        "(self._scorer, self._scorer, self._again)", "(self._scorer, self._scorer)",
        "unit/drafts/test_conformance.py::test_a_defect_is_refused_by_its_rule",
    ),
    _code(
        "requirement that one of the images lacks", "drafts/conformance.py",
        'LOCKS = ("ct.txt", "serve.txt")', 'LOCKS = ("ct.txt",)',
        "unit/drafts/test_conformance.py::test_a_defect_is_refused_by_its_rule",
    ),
    _code(
        "contract whose arguments have any type", "contract/columns.py",
        "STRICT = ConfigDict(strict=True)", "STRICT = ConfigDict()", RULES,
    ),
    _code(
        "row that MariaDB cannot hold", "store/tables.py",
        "while texts and not _fits(columns):", "while False:",
        "integration/store/test_migrations.py::test_tables_of_long_and_of_many_texts_can_be_made",
    ),
    _code(
        "model of edited code taken for one that exists", "training/fingerprint.py",
        "[profile.estimator, profile.code]", "[profile.estimator]",
        "unit/training/test_fingerprint.py::test_all_that_decides_the_result_matters",
    ),
    _code(
        "label passed to the model by the gate", "promotion/evaluation.py",
        "inputs = holdout[names(contract.model_inputs)]", "inputs = holdout",
        "unit/promotion/test_evaluation.py::test_model_sees_its_inputs_only",
    ),
]  # fmt: skip

PROMOTION = [
    _code(
        "champion compared with itself", "promotion/gate.py",
        "else evaluated(champion)", "else evaluated(registry.info(version))",
        f"{REGISTRY}::test_better_model_replaces_the_champion_and_worse_does_not",
    ),
    _code(
        "drafts of the contract allowed in production", "promotion/gate.py",
        "settings.environment is not Environment.PRODUCTION", "True",
        f"{REGISTRY}::test_a_draft_in_the_contract_is_refused_in_production_only",
    ),
    _code(
        "lock written in spite of a problem", "cli/contract.py",
        "    _refuse(problems(found))\n", "",
        "unit/drafts/test_check.py::test_the_command_lists_drafts_and_problems",
    ),
    _code(
        "payload compared with the first category of each column only", "drafts/check.py",
        "range(max(map(len, values.values()), default=0))", "range(1)",
        "unit/drafts/test_check.py::test_a_payload_that_refuses_a_category_is_named",
    ),
    _code(
        "gate that asks for one rule only", "promotion/decision.py",
        "if all(rule.passed for rule in rules)", "if any(rule.passed for rule in rules)",
        f"{DECISION}::test_no_champion_still_needs_every_floor",
    ),
    _code(
        "promotion of a model whose rows the API refuses", "promotion/decision.py",
        "        passed=refused == 0,\n", "        passed=True,\n",
        f"{DECISION}::test_a_model_whose_rows_the_api_refuses_is_refused",
    ),
    _code(
        "class decided by the gate instead of the model", "promotion/evaluation.py",
        "answered = class_indices(answer[PREDICTION].tolist(), contract.classes)",
        "answered = decided(table, contract.classes, threshold)",
        "unit/promotion/test_evaluation.py::test_rows_that_are_not_decided_as_the_policy_says_are_counted",
    ),
    _code(
        "scores of the class that the gate decides", "promotion/evaluation.py",
        "contract.classes, threshold, predicted=answered)", "contract.classes, threshold)",
        "unit/promotion/test_evaluation.py::test_rows_that_are_not_decided_as_the_policy_says_are_counted",
    ),
    _code(
        "threshold of the policy that the gate does not decide by", "promotion/evaluation.py",
        "decided(table, contract.classes, threshold)", "decided(table, contract.classes, None)",
        "unit/promotion/test_evaluation.py::test_two_classes_are_judged_by_the_threshold_of_the_policy",
    ),
    _code(
        "drafts of the contract that the decision does not hear of", "promotion/evaluation.py",
        "        drafts=len(contract.drafts),\n", "",
        "unit/promotion/test_evaluation.py::test_drafts_of_the_contract_are_counted",
    ),
    _code(
        "answers of a model that then failed", "promotion/evaluation.py",
        "        row_p95 = _row_p95_ms(model, inputs)\n", "        threshold_mismatches = other\n        row_p95 = _row_p95_ms(model, inputs)\n",
        "unit/promotion/test_evaluation.py::test_nothing_is_kept_of_a_model_that_fails_on_one_row",
    ),
    _code(
        "promotion of a model that decides by another threshold", "promotion/decision.py",
        "passed=not evaluation.threshold_mismatches", "passed=True",
        f"{DECISION}::test_a_model_with_a_threshold_that_the_policy_no_longer_has_is_refused",
    ),
    _code(
        "rows of the holdout asked of no payload", "promotion/evaluation.py",
        '_refused(holdout, contract, request) if request else (None, "")',
        '(0, "")',
        "unit/promotion/test_evaluation.py::test_rows_are_asked_of_the_payload_that_the_service_has",
    ),
    _code(
        "sleep of a model hidden by an idle thread in the queue", "promotion/evaluation.py",
        "min(waited, MAX_QUEUED * (ran - ran_before))", "waited",
        "unit/promotion/test_evaluation.py::test_the_time_in_the_queue_is_the_longest_of_a_thread_that_works",
    ),
    _code(
        "sleep of a model hidden by threads that wait at the same time", "promotion/evaluation.py",
        "max(held_up)", "sum(held_up)",
        "unit/promotion/test_evaluation.py::test_the_time_in_the_queue_is_the_longest_of_a_thread_that_works",
    ),
    _code(
        "drafts of the contract not looked at", "promotion/decision.py",
        "passed=allowed or not found", "passed=True",
        f"{DECISION}::test_each_rule_refuses_by_itself",
    ),
    _code(
        "category read as a regular expression", "contract/payload.py",
        '"|".join(literal(str(category)) for', '"|".join(str(category) for',
        "unit/contract/test_payload.py::test_categories_and_entries_may_have_the_characters_of_regular_expressions",
    ),
    _code(
        "no floors for the first model", "promotion/decision.py",
        "for rule in MODEL_RULES for result in", "for rule in MODEL_RULES if champion for result in",
        f"{DECISION}::test_no_champion_still_needs_every_floor",
    ),
    _code(
        "NaN accepted as a number", "promotion/decision.py",
        "if value is None or not math.isfinite(value):", "if value is None:",
        f"{DECISION}::test_what_is_no_finite_number_never_promotes",
    ),
    _code(
        "comparison on rows that the champion learned", "promotion/decision.py",
        "unseen = ~(candidate.seen | champion.seen)", "unseen = np.ones_like(candidate.seen)",
        f"{DECISION}::test_champion_gains_nothing_from_rows_it_was_trained_on",
    ),
    _code(
        "tie that always replaces the champion", "promotion/decision.py",
        "better = found.point > 0 or", "better = found.point >= 0 or",
        f"{DECISION}::test_ties_follow_the_policy",
    ),
    _code(
        "wrong end of the interval", "promotion/decision.py",
        "passed=found.lower >= -rule.margin", "passed=found.upper >= -rule.margin",
        f"{DECISION}::test_lucky_difference_within_wide_noise_is_refused",
    ),
    _code(
        "best slice judged instead of the worst", "promotion/decision.py",
        "worst = min(found", "worst = max(found",
        f"{DECISION}::test_model_that_gives_up_one_slice_is_refused",
    ),
    _code(
        "rows resampled, not groups", "promotion/bootstrap.py",
        "np.unique(groups, return_inverse=True)", "np.unique(np.arange(len(groups)), return_inverse=True)",
        "unit/promotion/test_bootstrap.py::test_rows_of_one_group_do_not_count_as_many",
    ),
    _code(
        "refused model promoted", "registry/versions.py",
        "        self._require_pass(info, before)\n", "",
        f"{REGISTRY}::test_refused_model_is_registered_as_refused",
    ),
    _code(
        "champion moved before the old one is remembered", "registry/versions.py",
        "        if before is not None:\n            self.client.set_registered_model_alias(self._name, PREVIOUS, before.version)\n"
        "        self.client.set_registered_model_alias(self._name, CHAMPION, info.version)\n",
        "        self.client.set_registered_model_alias(self._name, CHAMPION, info.version)\n"
        "        if before is not None:\n            self.client.set_registered_model_alias(self._name, PREVIOUS, before.version)\n",
        f"{REGISTRY}::test_promotion_killed_anywhere_comes_to_its_end",
    ),
    _code(
        "refusal that ends in exit code 0", "cli/model.py",
        "    if outcome.reasons:\n", "    if not outcome:\n",
        "integration/cli/test_commands.py::test_a_refused_model_is_registered_as_refused_and_never_promoted",
    ),
    _code(
        "page that shows the champion's scores as those of the version", "promotion/evidence.py",
        "THIS: _scores(candidate),", "THIS: _scores(champion or candidate),",
        f"{EVIDENCE}::test_every_number_on_the_page_is_the_one_in_the_decision",
    ),
    _code(
        "page that shows another run's training", "promotion/gate.py",
        "runs.report(run_id)", "runs.report(champion.run_id if champion else run_id)",
        f"{REGISTRY}::test_the_evidence_of_a_version_is_that_of_its_own_run",
    ),
    _code(
        "probabilities in another order on the page", "promotion/evidence.py",
        "chosen = found.probabilities[:, index, None]", "chosen = found.probabilities[:, ::-1][:, index, None]",
        f"{EVIDENCE}::test_curves_are_those_of_scikit_learn",
    ),
    _code(
        "confusion matrix on its side", "promotion/plots.py",
        "axes.text(column, row, text,", "axes.text(row, column, text,",
        f"{EVIDENCE}::test_plots_draw_the_numbers_of_the_decision",
    ),
    _code(
        "importance of one feature told of another", "model/trees.py",
        "names=list(self.model.feature_names_)", "names=sorted(self.model.feature_names_)",
        "unit/training/test_trial.py::test_trees_say_which_feature_matters",
    ),
    _code(
        "name of a class read as a formula", "promotion/plots.py",
        '    "text.parse_math": False,  # a name may have dollar signs\n', "",
        f"{EVIDENCE}::test_a_name_is_shown_as_it_is_and_is_no_markup",
    ),
    _code(
        "plots that differ in every build", "promotion/plots.py",
        ' | {"svg.hashsalt": name}', "",
        f"{EVIDENCE}::test_two_builds_are_the_same_byte_by_byte",
    ),
    _code(
        "loss of a slice on rows that the champion learned", "promotion/evidence.py",
        "~(candidate.seen | champion.seen)", "np.ones(len(hits), dtype=bool)",
        f"{EVIDENCE}::test_slices_are_those_that_the_rules_judge",
    ),
    _code(
        "interval of rows, not of groups", "promotion/bootstrap.py",
        "_by_group(truth, predicted, *_numbered(groups), classes)",
        "_by_group(truth, predicted, *_numbered(np.arange(len(groups))), classes)",
        f"{EVIDENCE}::test_an_interval_covers_the_truth_as_often_as_it_says",
    ),
    _code(
        "decision on record before its page", "promotion/gate.py",
        "    return texts, {f", "    return dict(reversed(texts.items())), {f",
        f"{EVIDENCE}::test_a_decision_on_record_has_its_page",
    ),
    _code(
        "description that is longer than MLflow's databases keep", "registry/versions.py",
        "text = _cut(text, DESCRIPTION_LENGTH - len(link))", "text = _cut(text, 100_000)",
        "unit/registry/test_versions.py::test_a_description_fits_into_the_databases_of_mlflow[5000]",
    ),
    _code(
        "description of a person overwritten", "registry/versions.py",
        "if found and not found.startswith(DESCRIBED):", "if not found and not found.startswith(DESCRIBED):",
        f"{REGISTRY}::test_a_description_that_a_person_wrote_stays",
    ),
]  # fmt: skip

STORE = [
    _code(
        "validation that remembers every key", "stages/data.py", "ordered=True", "ordered=False",
        "unit/stages/test_data.py::test_validation_remembers_one_key",
    ),
    _code(
        "key repeated in the next rows that are read", "contract/duplicates.py",
        "np.array([hashes[-1], _LAST])", "np.array([_LAST])",
        "unit/contract/test_duplicates.py::test_of_ordered_keys_the_last_one_says_enough",
    ),
    _code(
        "synthetic rows drawn all at once", "derived/synthetic.py",
        "blocks = -(-rows // BLOCK_ROWS)", "blocks = 1",
        "unit/test_synthetic.py::test_memory_of_writing_does_not_grow_with_the_rows",
    ),
    _code(
        "blocks of synthetic rows with the same keys", "derived/synthetic.py",
        " + 5 * BLOCK_ROWS * self.block", "",
        "unit/test_synthetic.py::test_rows_of_several_blocks_are_one_table",
    ),
    _code(
        "rows of a snapshot held during a training", "stages/data.py",
        "frame, self.frame = self.frame, self.frame.iloc[:0].copy()", "frame = self.frame",
        "unit/stages/test_data.py::test_a_training_holds_the_rows_once",
    ),
    _code(
        "numbers that CatBoost has to reorder in each call", "model/encoder.py",
        'dtype=np.float32, order="F")', "dtype=np.float32)",
        "unit/model/test_estimator.py::test_features_are_stored_by_column",
    ),
    _code(
        "categories that CatBoost has to reorder in each call", "model/encoder.py",
        'dtype=object, order="F")', "dtype=object)",
        "unit/model/test_estimator.py::test_features_are_stored_by_column",
    ),
    _code(
        "features of one's own that CatBoost has to reorder in each call", "model/trees.py",
        'dtype=object, order="F")', "dtype=object)",
        "unit/model/test_estimator.py::test_features_are_stored_by_column",
    ),
    _code(
        "features of a frame's first block only", "model/encoder.py",
        "[getattr(block, name) for block in blocks])", "[getattr(block, name) for block in blocks[:1]])",
        "unit/model/test_encoder.py::test_a_frame_is_encoded_in_blocks",
    ),
    _code(
        "retention off by one day", "store/snapshot.py",
        "timedelta(days=keep_days)", "timedelta(days=keep_days + 1)",
        f"{SNAPSHOT}::test_seven_days_are_kept",
    ),
    _code(
        "features from after the label", "store/snapshot.py",
        'features.c[day] <= newest.c["_label_day"]', "features.c[day].is_not(None)",
        f"{SNAPSHOT}::test_nothing_younger_than_the_label_is_seen",
    ),
    _code(
        "labels from before the window", "store/snapshot.py",
        ".between(_date(_FIRST), _date(_DAY))", ".__le__(_date(_DAY))",
        f"{SNAPSHOT}::test_labels_of_the_window_are_joined_to_their_features",
    ),
    _code(
        "order of a snapshot's rows that depends on the chunks it was read in", "store/snapshot.py",
        "union_categoricals(parts, sort_categories=True)", "union_categoricals(parts)",
        f"{SNAPSHOT}::test_a_frame_does_not_depend_on_the_chunks_it_was_read_in",
    ),
    _code(
        "rows of a snapshot numbered anew in each chunk it was read in", "store/snapshot.py",
        "pd.concat(parts, ignore_index=True)", "pd.concat(parts)",
        f"{SNAPSHOT}::test_a_frame_does_not_depend_on_the_chunks_it_was_read_in",
    ),
    _code(
        "rows without a date that a snapshot of their day leaves out", "store/snapshot.py",
        "features.c[day] <= _date(_DAY) if", "features.c[day] < _date(_DAY) if",
        f"{SNAPSHOT}::test_without_event_dates_a_snapshot_has_all_rows_ingested_by_its_day",
    ),
    _code(
        "class that the contract does not have, of a label that is no text", "contract/schemas.py",
        "pa.Check.isin(contract.classes)", "None",
        "unit/contract/test_schemas.py::test_a_label_is_the_text_of_a_class_however_it_is_written",
    ),
    _code(
        "codes that are no longer text and compare as unchanged", "derived/diff.py",
        '("written",) if old["kind"] == new["kind"] else ()', "()",
        "unit/contract/test_diff.py::test_a_breaking_change_requires_a_major_step_and_names_whom_it_breaks",
    ),
    _code(
        "two keys in one contract", "contract/rules.py",
        "        if len(several) > 1:\n", "        if len(several) > 2:\n", RULES,
    ),
    _code(
        "category with blanks that ingest removes", "contract/rules.py",
        "if text != text.strip() or not text or text == MISSING:", "if not text or text == MISSING:", RULES,
    ),
    _code(
        "minimum above the maximum", "contract/rules.py",
        "column.minimum > column.maximum:", "column.minimum > column.maximum + 1:", RULES,
    ),
    _code(
        "names that differ in capitals only", "contract/rules.py",
        "Counter(name.casefold() for name in all_names)", "Counter(all_names)", RULES,
    ),
    _code(
        "broken contract that is loaded", "contract/rules.py",
        "    if found:\n        raise UsageError(", "    if len(found) > 9:\n        raise UsageError(", RULES,
    ),
    _code(
        "renamed column that loses its values", "store/migrations/env.py",
        "    if dropped and added:\n", "    if dropped and len(added) > 1:\n",
        "unit/store/test_migrations.py::test_a_rename_is_refused_before_it_loses_data",
    ),
    _code(
        "values of a column that became personal left with the features", "store/migrations/env.py",
        "        upgrades.ops.extend(_became_personal(migration.connection))\n", "",
        "unit/store/test_migrations.py::test_a_feature_that_turns_out_to_be_personal_leaves_no_value_behind",
    ),
    _code(
        "rows of two files without a key mixed", "store/ingest.py",
        "elif contract.key.filled and connection", "elif not contract.key.filled and connection",
        "unit/store/test_ingest.py::test_without_a_key_rows_of_two_files_are_not_mixed",
    ),
    _code(
        "label or personal data kept although the source took them back", "store/ingest.py",
        "                _delete(self._connection, table, frame.loc[~given])\n", "",
        "integration/store/test_ingest.py::test_what_a_source_takes_back_is_deleted",
    ),
    _code(
        "a text with a quote that ends its SQL literal", "store/upsert.py",
        """"'", "''")""", """"'", "'")""",
        "unit/store/test_upsert.py::test_no_text_ends_its_literal",
    ),
    _code(
        "a text with a backslash that ends its SQL literal", "store/upsert.py",
        'pc.replace_substring(array.cast(pa.large_string()), "\\\\", "\\\\\\\\")', "array.cast(pa.large_string())",
        "unit/store/test_upsert.py::test_no_text_ends_its_literal",
    ),
    _code(
        "wrong time zone for the day", "settings.py",
        "datetime.now(self.zone).date()", 'datetime.now(ZoneInfo("UTC")).date()',
        "unit/test_settings.py::test_today_is_that_of_the_zone",
    ),
    _code(
        "personal values in the quarantine", "store/ingest.py",
        "hidden = set(names(self._plan.personal))", "hidden: set[str] = set()",
        "unit/store/test_ingest.py::test_personal_values_go_to_their_table_only",
    ),
    _code(
        "column of the engine renamed, which every adopter would lose", "store/tables.py",
        'Column("labelled", BigInteger()', 'Column("labeled", BigInteger()',
        "unit/store/test_tables.py::test_a_version_of_the_engine_only_adds_columns_and_tables",
    ),
    _code(
        "new column of the engine that rows cannot fill", "store/tables.py",
        'nullable=False, server_default="")', "nullable=False)",
        "unit/store/test_tables.py::test_a_version_of_the_engine_only_adds_columns_and_tables",
    ),
    _code(
        "any share of bad rows accepted", "store/rows.py",
        "if share > allowed:", "if share > 1:",
        "unit/store/test_ingest.py::test_too_many_bad_rows_leave_nothing",
    ),
    _code(
        "password in a message", "urls.py",
        "username=None, password=None).set(query={})", "drivername=url.drivername).set(query={})",
        "unit/test_settings.py::test_no_secret_is_shown_by_config",
    ),
    _code(
        "message of another library shown", "errors.py",
        "isinstance(error, CtcdError)", "isinstance(error, Exception)",
        "unit/test_errors.py::test_ours_are_shown_and_others_located",
    ),
    _code(
        "parameters in errors of MLflow's database", "registry/tracking.py",
        "create_engine(url, hide_parameters=True)", "create_engine(url)",
        "unit/test_errors.py::test_every_engine_hides_parameters",
    ),
    _code(
        "part of a password taken for the host", "urls.py",
        'if "@" in (url.host or "") or', "if",
        "unit/test_settings.py::test_no_part_of_a_password_is_taken_for_the_host",
    ),
    _code(
        "store of MLflow that two processes create, one of them by a link", "registry/tracking.py",
        "path = path.resolve()", "path = path.absolute()",
        "integration/training/test_tracking.py::test_who_creates_the_store_at_the_same_time_waits_and_keeps_it",
    ),
    _code(
        "copy beside MLflow's store that is deleted with what a killed process left", "files.py",
        r"\.[0-9]+-[0-9a-f]{{8}}(-[a-z]+)?", r"\..*",
        "unit/test_files.py::test_only_what_a_killed_writer_left_is_taken_for_that",
    ),
    _code(
        "full disk under MLflow's store that is taken for a bug", "registry/tracking.py",
        "        raise _of_database(error, uri) from error\n    except (", "        raise\n    except (",
        "integration/training/test_tracking.py::test_a_full_disk_on_which_mlflow_creates_its_tables_is_no_bug",
    ),
    _code(
        "full disk under MLflow's store that is taken for a server that does not answer", "registry/tracking.py",
        "if isinstance(error.__cause__, DBAPIError):", "if isinstance(error.__cause__, sqlite3.Error):",
        "integration/training/test_tracking.py::test_a_full_disk_to_which_mlflow_writes_is_named",
    ),
    _code(
        "refused artifacts that are taken for missing ones", "registry/tracking.py",
        "except (MlflowException, requests.RequestException) as error", "except MlflowException as error",
        "unit/registry/test_versions.py::test_a_registry_that_does_not_answer_is_named",
    ),
    _code(
        "option of a URL shown", "urls.py",
        'f"{name}={HIDDEN}"', 'f"{name}={url.query[name]}"',
        "unit/test_settings.py::test_no_secret_is_shown_by_config",
    ),
    _code(
        "placeholder in an option of a URL accepted", "urls.py",
        "*token, *options]", "*token]",
        "unit/test_settings.py::test_a_placeholder_is_refused_wherever_it_is",
    ),
    _code(
        "URL of a path made as text", "urls.py",
        'URL.create("sqlite", database=str(file)).render_as_string()', 'f"sqlite:///{file}"',
        "unit/test_settings.py::test_a_store_is_in_its_home_whatever_the_name",
    ),
    _code(
        "misspelled setting ignored", "settings.py",
        "    _refuse_unknown_variables()\n    try", "    try",
        "unit/test_settings.py::test_an_unknown_variable_is_refused_with_the_nearest_name",
    ),
    _code(
        "table that cannot be read and is left out", "store/sources.py",
        "if _is_of(file, table)]", "if _is_of(file, table) and file.is_file()]",
        "unit/store/test_sources.py::test_what_is_no_regular_file_is_refused",
    ),
    _code(
        "pipe that a draft waits for", "drafts/columns.py",
        "Source(path.stem, regular(path))", "Source(path.stem, path.resolve())",
        "unit/drafts/test_columns.py::test_what_is_no_regular_file_is_not_read",
    ),
    _code(
        "old part of an instance that is deleted although another one cannot be replaced", "cli/init.py",
        "undone.callback(_moved, old / each, place)", "pass",
        "unit/drafts/test_init.py::test_all_parts_stay_if_one_cannot_be_replaced",
    ),
    _code(
        "pipe taken for a file", "store/sources.py",
        "if not path.is_file():", "if path.is_dir():",
        "unit/store/test_sources.py::test_what_is_no_regular_file_is_refused",
    ),
    _code(
        "second row for an answer that is already logged", "store/prediction_log.py",
        "insert_new(connection, table, ", "connection.execute(table.insert(), ",
        "unit/store/test_predictions.py::test_a_request_is_logged_once",
    ),
    _code(
        "predictions deleted that the warehouse lacks", "stages/scoring.py",
        "        if settings.warehouse\n", "        if not settings.warehouse\n",
        "unit/store/test_retention.py::test_nothing_is_deleted_that_the_warehouse_lacks",
    ),
    _code(
        "months of the log by the local calendar alone", "stages/scoring.py",
        'min(settings.today(), settings.model_copy(update={"timezone": "UTC"}).today())', "settings.today()",
        "unit/store/test_retention.py::test_a_month_goes_once_it_is_over_in_both_calendars",
    ),
    _code(
        "killed partitioning left as it is", "store/retention.py",
        "            _finish(connection, log, progress)\n    first = None", "            pass\n    first = None",
        f"{RETENTION}::test_each_retain_finishes_what_was_killed",
    ),
    _code(
        "month dropped from the log that is kept", "store/retention.py",
        "if end and end <= first]", "if end and _month(end, -1) <= first]",
        f"{RETENTION}::test_a_filled_log_gets_partitions_and_loses_months",
    ),
    _code(
        "row deleted from the log that is kept", "store/retention.py",
        "0, log.c.created_at < before", "0, log.c.created_at < datetime.now(UTC)",
        f"{RETENTION}::test_rows_without_partitions_are_deleted",
    ),
    _code(
        "id left out of the key of a log with partitions", "store/retention.py",
        "(request_id, created_at)", "(id, created_at)",
        f"{RETENTION}::test_a_filled_log_gets_partitions_and_loses_months",
    ),
    _code(
        "rows lost that are written while the tables change places", "store/retention.py",
        "        _copy(connection, before, log.name, progress, begin=0)\n", "",
        f"{RETENTION}::test_what_was_interrupted_is_continued",
    ),
    _code(
        "table of somebody else taken for the log before partitions", "store/retention.py",
        "if before in there or (new in there and not _is_ours(connection, new, log)):", "if False:",
        f"{RETENTION}::test_a_table_of_somebody_else_is_left_alone",
    ),
    _code(
        "day taken for copied of which the warehouse lacks rows", "store/warehouse.py",
        "if _complete(present, rows, last) is None:", "if not present:",
        "unit/store/test_warehouse.py::test_nothing_is_required_again_of_a_day_that_is_in_the_folder_as_a_whole",
    ),
    _code(
        "message logged again because it was answered again", "store/prediction_log.py",
        'any(_may_come_again(row["request_id"]) for row in rows)', "False",
        f"{RETENTION}::test_a_message_answered_twice_is_logged_once",
    ),
]  # fmt: skip

SERVICE = [
    _code(
        "shipping that takes the processor from requests", "serving/prediction_log/idle.py",
        "os.SCHED_IDLE", "os.SCHED_OTHER",
        "unit/serving/test_idle.py::test_a_batch_is_sent_at_idle_priority_unless_it_is_urgent",
    ),
    _code(
        "prediction answered but not logged", "serving/predictor.py",
        "self._outbox.append(", "print(",
        "unit/serving/test_predictor.py::test_an_answer_is_on_disk_when_it_is_given", area=Area.SERVICE,
    ),
    _code(
        "full outbox that accepts more", "serving/prediction_log/outbox.py",
        "return self._depth + rows <= self.max_records or", "return True or",
        "unit/serving/test_outbox.py::test_a_full_outbox_takes_nothing_and_says_so", area=Area.SERVICE,
    ),
    _code(
        "floors that decide without a word although the champion's run is gone", "promotion/gate.py",
        "if not without_champion:", "if without_champion == '':",
        f"{REGISTRY}::test_a_champion_whose_run_is_gone_is_named_and_the_floors_decide_by_choice_only",
    ),
    _code(
        "model taken for the one that had its version number before", "scoring/store.py",
        "scores.c.run_id == run_id", "scores.c.model_version == '1'",
        f"{REGISTRY}::test_a_model_that_is_made_again_is_not_taken_for_the_old_one",
    ),
    _code(
        "running service that keeps the model that had the version number before", "serving/champion/follower.py",
        "(champion.version, champion.run_id) == answering", "(champion.version,) == (answering or ())[:1]",
        "unit/serving/test_following.py::test_a_model_that_was_made_again_is_swapped_in",
    ),
    _code(
        "deployment that passes as the model that had the version number before", "deployment/smoke.py",
        "of run {info.get('run_id')}", "of run {version.run_id}",
        "unit/deployment/test_smoke.py::test_a_service_passes_only_with_the_very_run_of_its_version",
    ),
    _code(
        "limit of drift that is off by the square root of the rows", "monitoring/formulas.py",
        "(1 / rows + 1 / reference_rows)", "(1 / rows + 1 / reference_rows) ** 0.5",
        f"{FORMULAS}::test_samples_of_one_distribution_exceed_the_limit_as_rarely_as_it_says",
    ),
    _code(
        "limit of drift as if the reference were no sample", "monitoring/formulas.py",
        "(1 / rows + 1 / reference_rows)", "(1 / rows)",
        f"{FORMULAS}::test_samples_of_one_distribution_exceed_the_limit_as_rarely_as_it_says",
    ),
    _code(
        "shares compared at twenty times their probability", "monitoring/formulas.py",
        "min(1.0, 2 * float(min(", "min(1.0, 0.1 * float(min(",
        f"{FORMULAS}::test_two_shares_are_compared_by_the_exact_test_of_fisher",
    ),
    _code(
        "bins too small for their limit", "monitoring/formulas.py",
        "small = int((then < least * then.sum()).sum())", "small = 0",
        f"{FORMULAS}::test_bins_that_are_too_small_are_judged_as_one",
    ),
    _code(
        "rows of the store compared with a model of another contract", "monitoring/drift.py",
        'self.source == "features" and not', "False and not",
        f"{DRIFT}::test_a_column_that_the_contract_has_dropped_is_no_error",
    ),
    _code(
        "rare categories counted with the one that nearly all rows have", "model/reference.py",
        "return place if any(place) else", "return place if True else",
        f"{DRIFT}::test_a_rare_value_that_takes_over_is_found",
    ),
    _code(
        "rare numbers counted with the one that nearly all rows have", "model/reference.py",
        "if place.any() else", "if True else",
        f"{DRIFT}::test_a_rare_value_that_takes_over_is_found",
    ),
    _code(
        "false alarms of a year allowed to each column", "monitoring/formulas.py",
        "(max(checks, 1) * looks)", "looks",
        f"{FORMULAS}::test_the_false_alarms_of_a_year_are_divided_by_all_checks",
    ),
    _code(
        "drift from the current rows themselves", "monitoring/drift.py",
        "reference = binned.counts\n", "reference = counts\n",
        f"{DRIFT}::test_a_planted_drift_is_found",
    ),
    _code(
        "drift of rows of one group that count as independent", "monitoring/samples.py",
        "int(squares if groups else total)", "int(total)",
        f"{DRIFT}::test_rows_of_few_groups_are_not_judged",
    ),
    _code(
        "drift of a model from what another one was trained on", "monitoring/drift.py",
        "find_reference(rows.model[1])", "find_reference((champion or rows.model)[1])",
        f"{DRIFT}::test_each_model_is_compared_with_its_own_reference",
    ),
    _code(
        "drift since the last training from the current rows themselves", "monitoring/since.py",
        "compared(name, each, counts[name],", "compared(name, each, each.counts,",
        f"{DRIFT}::test_drift_since_the_last_training_is_that_of_the_monitor",
    ),
    _code(
        "score of a month with the rows of later ones", "promotion/evidence.py",
        "here = (of_row == month)", "here = (of_row >= month)",
        f"{EVIDENCE}::test_scores_by_month_are_those_of_the_rows_of_the_month",
    ),
    _code(
        "rows of a snapshot dated by their features", "store/snapshot.py",
        '            newest.c["_label_day"],\n', '            features.c[day].label("_label_day"),\n',
        f"{SNAPSHOT}::test_each_row_has_the_date_of_its_label", area=Area.DATA,
    ),
    _code(
        "source file recorded by its name", "store/sources.py",
        'hashlib.file_digest(file, "sha256")', "hashlib.sha256(self.path.name.encode())",
        "unit/store/test_ingest.py::test_files_are_recorded_by_their_content", area=Area.DATA,
    ),
    _code(
        "large day that new labels do not change", "monitoring/performance.py",
        "more = labels > known.labels and", "more = False and",
        f"{PERFORMANCE}::test_a_large_day_is_read_again_when_there_are_half_as_many_labels_again",
    ),
    _code(
        "large day that is not read once its labels are complete", "monitoring/performance.py",
        "and not closed", "",
        f"{PERFORMANCE}::test_a_large_day_is_read_a_last_time_when_its_labels_are_complete",
    ),
    _code(
        "counts of other slices taken for those of the policy", "monitoring/performance.py",
        '"by": by,', '"by": "",',
        f"{PERFORMANCE}::test_a_large_day_is_read_again_if_what_is_kept_is_of_something_else",
    ),
    _code(
        "labels joined to predictions of another month", "monitoring/performance.py",
        "when.between(day, day + HORIZON)", "when.between(day - HORIZON, day)",
        f"{PERFORMANCE}::test_a_label_belongs_to_the_month_after_its_prediction",
    ),
    _code(
        "estimate with the probabilities in another order", "monitoring/performance.py",
        "row.probabilities[name] for name in self._classes", "row.probabilities[name] for name in sorted(self._classes)",
        f"{PERFORMANCE}::test_a_calibrated_model_is_estimated_before_its_labels",
    ),
    _code(
        "error of an estimate for other rows than those that are labelled", "monitoring/performance.py",
        "self._expected_labelled += table[both].T @ answers[both]", "self._expected_labelled += table.T @ answers",
        f"{PERFORMANCE}::test_the_error_of_an_estimate_is_that_of_the_same_rows",
    ),
    _code(
        "interval as if the rows of a group were independent", "monitoring/performance.py",
        "effective / counted)", "1.0)",
        f"{PERFORMANCE}::test_rows_of_one_group_make_no_interval_narrower",
    ),
    _code(
        "answers compared with those on the rows that the model has learnt", "training/job.py",
        "        holdout,\n        scorer.predict(holdout),", "        split.train,\n        scorer.predict(split.train),",
        f"{TRAIN}::test_the_reference_is_frozen_with_the_model",
    ),
    _code(
        "performance of two models with the same version number mixed", "monitoring/performance.py",
        "(row.model_version, row.run_id) for row in chunk}", '(row.model_version, "run") for row in chunk}',
        "integration/monitoring/test_performance.py::test_two_models_with_the_same_version_are_measured_apart",
    ),
    _code(
        "records deleted before the store has them", "serving/prediction_log/shipper.py",
        "            try:\n                self._send([body for _, body in rows])\n",
        "            outbox.delete(through=rows[-1][0])\n            try:\n                self._send([body for _, body in rows])\n",
        "unit/serving/test_shipper.py::test_a_store_that_fails_gets_everything_once_it_is_back", area=Area.SERVICE,
    ),
    _code(
        "batch that is sent again and again because the disk is too full to delete it", "serving/prediction_log/outbox.py",
        "self._sent = max(self._sent, through)", "pass",
        "unit/serving/test_outbox.py::test_records_that_cannot_be_deleted_are_not_offered_again", area=Area.SERVICE,
    ),
    _code(
        "outbox that accepts what it has no space to delete", "serving/prediction_log/outbox.py",
        "if not self._reserved:\n            raise OutboxFull(", "if not self.path:\n            raise OutboxFull(",
        "unit/serving/test_outbox.py::test_an_outbox_accepts_records_only_while_it_has_its_reserve", area=Area.SERVICE,
    ),
    _code(
        "outbox that is damaged in use and refuses until a restart", "serving/prediction_log/outbox.py",
        "if damaged(error) and self._claim is not None:", "if damaged(error) and self._claim is None:",
        "unit/serving/test_outbox.py::test_an_outbox_that_is_damaged_in_use_goes_on_with_a_new_file",
        area=Area.SERVICE,
    ),
    _code(
        "records deleted by the numbers of a file that was replaced", "serving/prediction_log/outbox.py",
        "if self._out is not self._offered:", "if self._out is None:",
        "unit/serving/test_outbox.py::test_numbers_of_a_file_that_was_replaced_delete_nothing", area=Area.SERVICE,
    ),
    _code(
        "unreadable record that holds up the others", "serving/prediction_log/shipper.py",
        "if refused and not accepted:", "if (dead or refused) and not accepted:",
        "unit/serving/test_shipper.py::test_a_record_that_cannot_be_read_and_is_alone_waits_for_no_other",
        area=Area.SERVICE,
    ),
    _code(
        "record of another format taken for one of this version", "serving/prediction_log/records.py",
        "if version != FORMAT:", "if version == 0:",
        "unit/serving/test_shipper.py::test_records_that_cannot_be_read_become_dead_letters_with_their_bytes",
        area=Area.SERVICE,
    ),
    _code(
        "damaged record sent to the store", "serving/prediction_log/records.py",
        "if checksum is not None and", "if checksum is None and",
        "unit/serving/test_shipper.py::test_no_flipped_bit_changes_a_prediction", area=Area.SERVICE,
    ),
    _code(
        "dead letters that are never sent again", "serving/prediction_log/shipper.py",
        "self._retry_dead_letters()\n                pause", "pause",
        "unit/serving/test_shipper.py::test_dead_letters_are_sent_again_by_themselves", area=Area.SERVICE,
    ),
    _code(
        "outbox that ends the search for others", "serving/prediction_log/outbox_files.py",
        "return NotAnOutbox(", "return Unreachable(",
        "unit/serving/test_outbox.py::test_a_file_that_is_no_outbox_is_moved_aside", area=Area.SERVICE,
    ),
    _code(
        "metrics of two models that cannot be told apart", "serving/metrics.py",
        '{**each.labels, "model": self._model}', "each.labels",
        "unit/serving/test_metrics.py::test_every_sample_has_the_model_as_a_label", area=Area.SERVICE,
    ),
    _code(
        "answers of a batch mixed up", "serving/predictor.py",
        "waiting.answer.set_result(outcome[index])", "waiting.answer.set_result(outcome[(index + 1) % len(batch)])",
        "unit/serving/test_predictor.py::test_answers_are_those_of_the_scorer_however_requests_fall_together",
        area=Area.SERVICE,
    ),
    _code(
        "one request in twenty refused by the running service", "serving/predictor.py",
        "if not self._outbox.room_for(", "if hash(request_id) % 20 == 0 or not self._outbox.room_for(",
        "integration/serving/test_load_smoke.py::test_the_service_passes", area=Area.SERVICE,
    ),
    _code(
        "service that accepts a model of another contract", "model/served.py",
        "(scorer.name, scorer.contract_version), (contract.name, contract.version))",
        "(scorer.name, scorer.name), (contract.name, contract.name))",
        "unit/serving/test_model.py::test_a_model_of_another_contract_is_refused", area=Area.SERVICE,
    ),
    _code(
        "unforeseen error that ends a thread for good", "serving/loops.py",
        "with suppress(BaseException):\n                self._once", "with suppress(OSError):\n                self._once",
        "unit/serving/test_loops.py::test_a_metric_that_fails_does_not_end_the_work", area=Area.SERVICE,
    ),
    _code(
        "thread that fails without being counted", "serving/loops.py",
        "        self._ended(self.name)\n", "",
        "unit/serving/test_loops.py::test_whatever_ends_the_work_starts_it_again", area=Area.SERVICE,
    ),
    _code(
        "library's error that a refusal does not cover", "model/artifact.py",
        "    except (Exception, SystemExit) as error:", "    except (KeyError, TypeError) as error:",
        "unit/serving/test_following.py::test_a_champion_that_does_not_fit_is_refused_once_with_the_reason",
        area=Area.SERVICE,
    ),
    _code(
        "damaged description of a model", "model/scorer.py",
        "if SELF_DIGEST in data and data[SELF_DIGEST] != _digest_of(data):", "if False:",
        "unit/model/test_scorer.py::test_a_description_that_was_changed_is_refused", area=Area.SERVICE,
    ),
    _code(
        "worker that outlives its supervisor", "serving/children.py",
        "    while os.getppid() == supervisor:\n", "    while supervisor:\n",
        "unit/serving/test_children.py::test_a_worker_without_its_supervisor_ends", area=Area.SERVICE,
    ),
    _code(
        "second service on the same address and home", "serving/supervisor.py",
        "fcntl.LOCK_EX | fcntl.LOCK_NB", "fcntl.LOCK_SH | fcntl.LOCK_NB",
        "unit/serving/test_launch.py::test_a_second_service_on_the_same_address_and_home_is_refused", area=Area.SERVICE,
    ),
    _code(
        "service taken for ended while its threads hold its locks", "serving/launch.py",
        " and process.num_threads() == 1)", ")",
        "unit/serving/test_launch.py::test_a_service_has_ended_once_all_its_threads_have", area=Area.SERVICE,
    ),
]  # fmt: skip

UPLOADED = [
    _code(name, f"serving/{path}", old, new, f"unit/serving/test_uploads.py::{test}", area=Area.SERVICE)
    for name, path, old, new, test in (
        (
            "file accepted before it is on disk", "http/handlers.py",
            "trace.rows = await asyncio.to_thread(upload.accept)",
            "asyncio.get_running_loop().call_later(0.5, upload.accept)",
            "test_a_file_is_on_disk_when_it_is_accepted",
        ),
        (
            "time of a file in the queue that is not in the log", "requests/files.py",
            "started = time.perf_counter() - taken.waited", "started = time.perf_counter()",
            "test_the_time_in_the_queue_is_in_the_log",
        ),
        (
            "bad rows of a file that count twice", "requests/files.py",
            '"rows": len(rows) + refused, "predicted": len(rows)',
            '"rows": len(rows) + refused, "predicted": len(rows) + refused',
            "test_a_file_is_scored_like_in_batch",
        ),
        (
            "result of a part that two workers write", "requests/files.py",
            '{part}.{attempt}.{what}', '{part}.{what}', "test_each_attempt_has_a_result_of_its_own",
        ),
        (
            "limit of rows that is not enforced", "requests/files.py",
            "if rows > (most := self._files.limits.upload_max_rows):",
            "if rows > 10 * (most := self._files.limits.upload_max_rows):",
            "test_a_file_that_cannot_be_scored_is_refused_at_once",
        ),
        (
            "limit of bytes that counts what is declared only", "http/handlers.py",
            "                if size > most:\n", "                if size > 10 * most:\n",
            "test_a_file_of_unknown_length_is_cut_off",
        ),
        (
            "result of a file for a key of the metrics", "http/routes.py",
            '        name="result_of_file",\n', '        name="result_of_file",\n        access=Access.METRICS,\n',
            "test_only_a_key_of_the_api_sees_a_file",
        ),
        (
            "rows of a file that share request ids", "requests/files.py",
            "{numbers[place]:08d}", "{place:08d}", "test_a_file_is_scored_like_in_batch",
        ),
        (
            "files that come before requests", "requests/answering.py",
            "        if self._step(self.queue, self._score):\n            return True\n",
            "        if self.files and self._step(self.files.queue, self.files.answer):\n            return True\n",
            "test_requests_come_before_files",
        ),
        (
            "upload that is deleted while it arrives", "requests/files.py",
            "            if lock is not None:\n                try:\n", "            if True:\n                try:\n",
            "test_a_file_that_was_broken_off_is_deleted_at_the_start",
        ),
        (
            "parts of a file that expire one by one", "requests/queue.py",
            "HAVING min(state) = ? AND max(answered) < ?", "HAVING ? = 2 AND min(answered) < ?",
            "test_the_parts_of_a_file_expire_together",
        ),
        (
            "file that fills the disk before it is found too large", "requests/files.py",
            "            self._check_parts(len(parts), sum(size for size, _ in parts))\n", "",
            "test_a_full_queue_or_disk_refuses",
        ),
        (
            "full disk that counts as an attempt", "requests/answering.py",
            "                queue.give_back(taken)\n", "",
            "test_a_disk_that_is_full_for_long_loses_no_file",
        ),
        (
            "empty cells that are not bounded", "../store/sources.py",
            "text += len(record.cells) + sum", "text += sum",
            "test_many_small_cells_are_bounded",
        ),
        (
            "repeated text of a file written out", "../store/sources.py",
            ', "read_dictionary": self._dictionaries()', "", "test_a_text_that_is_repeated_is_not_written_out",
        ),
    )
]  # fmt: skip

REQUESTED = [
    _code(name, f"serving/{path}", old, new, f"unit/serving/test_requests.py::{test}", area=Area.SERVICE)
    for name, path, old, new, test in (
        (
            "lease that never ends", "requests/queue.py",
            "AND NOT leased BETWEEN ? AND ?", "AND leased = 0 AND ? < ?",
            "test_a_killed_workers_request_is_taken_again_after_its_lease",
        ),
        (
            "request that two workers take", "requests/queue.py",
            "AND NOT leased BETWEEN ? AND ?", "AND ? < ?",
            "test_a_request_is_taken_by_one_worker_at_a_time",
        ),
        (
            "time of a request in the queue that is not in the log", "requests/answering.py",
            "started = time.perf_counter() - taken.waited", "started = time.perf_counter()",
            "test_the_time_in_the_queue_is_in_the_log",
        ),
        (
            "lease that begins before the write lock is held", "requests/queue.py",
            "self._leases(now))", "self._leases(now - 1))",
            "test_a_request_is_not_taken_twice_by_a_worker_that_waited_to_write",
        ),
        (
            "result given to another id", "requests/queue.py",
            "x''), state FROM requests WHERE id = ?", "x''), state FROM requests WHERE id >= ? ORDER BY id DESC",
            "test_each_request_has_its_own_answer",
        ),
        (
            "request accepted before it is on disk", "http/handlers.py",
            "await asyncio.to_thread(self._answering.add, trace.request_id, body)",
            "asyncio.get_running_loop().call_later(0.5, self._answering.add, trace.request_id, body)",
            "test_a_request_is_on_disk_when_it_is_accepted",
        ),
        (
            "request that is not on disk when it is committed", "requests/queue.py",
            "synchronous = FULL", "synchronous = NORMAL", "test_a_commit_waits_for_the_disk",
        ),
        (
            "answer of a slow worker that replaces the first one", "requests/queue.py",
            "WHERE seq = ? AND id = ? AND state = ?", "WHERE seq = ? AND id = ? AND state >= ?",
            "test_the_first_answer_counts",
        ),
        (
            "answer of a killed worker that nobody logs", "requests/queue.py",
            "_ANSWERED if records else _DONE,", "_DONE,",
            "test_an_answer_whose_worker_was_killed_is_logged_by_another_one",
        ),
        (
            "records forgotten before the outbox has them", "requests/answering.py",
            "            self._outbox.append(", "            self.queue.logged(taken)\n            self._outbox.append(",
            "test_an_answer_that_the_outbox_refuses_is_logged_later",
        ),
        (
            "metrics of the queue that stand still while requests wait", "requests/answering.py",
            "                    self._sweep(SHOW_SECONDS)\n", "                    pass\n",
            "test_the_metrics_show_what_waits_while_there_are_always_requests",
        ),
        (
            "full queue that accepts more", "requests/queue.py",
            "if number + max(len(requests), 1) > self._most or", "if", "test_a_full_queue_accepts_nothing_until_answers_expire",
        ),
        (
            "answer that expires before it is logged", "requests/queue.py",
            "AND answered < ? AND state = {_DONE}", "AND answered < ? AND state <= {_DONE}",
            "test_a_full_queue_accepts_nothing_until_answers_expire",
        ),
        (
            "asynchronous requests that are not validated", "http/handlers.py",
            "await self.runtime.batches.check(body, seconds=self._limits.request_seconds)", "1",
            "test_what_a_batch_refuses_is_not_accepted",
        ),
        (
            "request that ends one worker after the other", "requests/answering.py",
            "if taken.attempts > MOST_ATTEMPTS:", "if taken.attempts > 10**9:",
            "test_a_request_that_cannot_be_answered_does_not_hold_up_the_next",
        ),
        (
            "asynchronous routes that nobody asked for", "http/handlers.py",
            "asynchronous=limits.asynchronous", "asynchronous=True",
            "test_without_the_setting_there_is_no_such_route",
        ),
    )
]  # fmt: skip

CONSUMED = "broker/test_consume.py::test_"

# What `ctcd consume` promises, with a real broker.
BROKERED = [
    _code(
        "broker that is missed only after a model was waited for", "serving/broker.py",
        "    asyncio.run(_require_answer(url, instance, settings))  # first, because the start may wait long for a model\n", "",
        f"{CONSUMED}what_is_missing_at_the_start_is_said_at_once", area=Area.SERVICE,
    ),
    _code(
        "answers that a restart of RabbitMQ loses", "serving/broker.py",
        '"persist": True', '"persist": False',
        "broker/test_rabbitmq.py::test_a_server_that_is_away_for_a_while_loses_nothing", area=Area.SERVICE,
    ),
    _code(
        "message acknowledged before it is committed", "serving/broker.py",
        "            result = await self._result(given, body)\n",
        "            await self._kind.settle(message)\n            result = await self._result(given, body)\n",
        f"{CONSUMED}a_message_is_acknowledged_only_when_its_prediction_is_on_disk", area=Area.SERVICE,
    ),
    _code(
        "message acknowledged before its answer is sent", "serving/broker.py",
        "if result.status == 200 and not await self._publish(\n",
        "if result.status == 200 and await self._kind.settle(message) is None and not await self._publish(\n",
        f"{CONSUMED}a_message_is_acknowledged_only_when_its_answer_is_with_the_broker", area=Area.SERVICE,
    ),
    _code(
        "message acknowledged without its deletion", "serving/broker.py",
        "client.pipeline()", "client.pipeline(transaction=False)",
        f"{CONSUMED}a_message_is_acknowledged_only_together_with_its_deletion", area=Area.SERVICE,
    ),
    _code(
        "message that is logged anew with each delivery", "serving/broker.py",
        'f"{given} {sha256', 'f"{given} {os.urandom(9)!r} {sha256',
        f"{CONSUMED}a_message_that_is_sent_twice_is_logged_once", area=Area.SERVICE,
    ),
    _code(
        "answer of another message with the same id", "serving/broker.py",
        'f"{given} {sha256(body).hexdigest()}"', "given",
        f"{CONSUMED}no_message_gets_the_answer_of_another_one", area=Area.SERVICE,
    ),
    _code(
        "id that no answer can have, delivered for ever", "serving/broker.py",
        "isinstance(given, str) and given.isascii() and ", "isinstance(given, str) and ",
        f"{CONSUMED}poison_is_dead_lettered_and_holds_up_nothing", area=Area.SERVICE,
    ),
    _code(
        "message of a killed process that nobody takes over", "serving/broker.py",
        "            partial(broker.subscriber, stream=left),\n", "",
        f"{CONSUMED}a_message_of_a_killed_process_is_answered_by_another_and_logged_once", area=Area.SERVICE,
    ),
    _code(
        "messages from before the first consumer lost", "serving/broker.py",
        'id="0", mkstream=True', 'id="$", mkstream=True',
        f"{CONSUMED}messages_are_answered_logged_once_and_removed", area=Area.SERVICE,
    ),
    _code(
        "poison that is delivered for ever", "serving/broker.py",
        'return await original(message | {"data"', 'raise\n            return await original(message | {"data"',
        f"{CONSUMED}poison_is_dead_lettered_and_holds_up_nothing", area=Area.SERVICE,
    ),
    _code(
        "AsyncAPI document without the rows of a message", "serving/broker.py",
        '{"body": payload.batch_request}', '{"body": dict}',
        "broker/test_kinds.py::test_the_document_describes_the_messages", area=Area.SERVICE,
    ),
]  # fmt: skip

PAYLOAD = [
    _payload("key of the answer renamed", BODIES, '"predict": (str', '"prediction": (str', "major"),
    _payload(
        "key of the answer dropped", BODIES,
        '        "confidence": (float, Field(description="probability of that class", ge=0, le=1)),\n', "", "major",
    ),
    _payload(
        "type of an answer changed", BODIES,
        "(each.name, _KINDS.get(each.kind, str), ", "(each.name, str, ", "major",
    ),
    _payload("column renamed", COLUMNS, "    vibration: Series[float]", "    tremor: Series[float]", "major"),
    _payload("bound narrowed", COLUMNS, "        maximum=20_000,\n", "        maximum=10_000,\n", "major"),
    _payload("bound loosened without a version step", COLUMNS, "        maximum=20_000,\n", "        maximum=30_000,\n", "minor"),
    _payload("category removed", COLUMNS, 'categories=("High", "Fair", "Low"),', 'categories=("High", "Fair"),', "major"),
    _payload(
        "optional field made required", COLUMNS,
        '        nullable=True,\n        example="early_long",\n', '        example="early_long",\n', "major",
    ),
    _payload("rule over two columns loosened", COLUMNS, ".between(0.1, 2.0)", ".between(0.0, 2.0)", "refused"),
    _payload(
        "contract changed and not locked", COLUMNS, 'meaning="rated power"', 'meaning="nominal power"',
        "out of date", gate=LOCK,
    ),
]  # fmt: skip

INSTANCES = [
    _code(
        "instance loaded from the default folder", "stages/connections.py",
        "load_instance(settings.contracts)", 'load_instance(type(settings).model_fields["contracts"].default)',
        "unit/contract/test_instance.py::test_stages_use_the_folder_of_the_settings", area=Area.CONFIGURATION,
    ),
    _code(
        "names of images that do not follow the contract", "contract/spec.py",
        'return self.name.replace("_", "-")', 'return "model"',
        "unit/deployment/test_scripts.py::test_the_slug_is_that_of_the_contract", area=Area.CONFIGURATION,
    ),
    Defect(
        name="DAG id that does not follow the contract", area=Area.CONFIGURATION,
        gate=Tests("tests/integration/dags/test_import.py::test_dags_are_named_after_the_contract"),
        plant=_edit("dags/continuous_training.py", 'f"{NAME}_classification_ct"', '"model_classification_ct"'),
    ),
    Defect(
        name="lock of the instance that is not current", area=Area.CONFIGURATION,
        gate=Tests("tests/contracts/test_data.py::test_the_lock_is_current"),
        plant=_edit("contracts/lock/contract.json", '  "format": 1,', '  "format": 0,'),
    ),
    _code(
        "route open without a key although the table requires one", "serving/http/api_keys.py",
        "Access.API: api,", "Access.API: None,",
        "unit/serving/test_keys.py::test_a_guarded_route_needs_a_key_and_accepts_every_valid_one", area=Area.SERVICE,
    ),
    _code(
        "row with any number of values validated", "serving/http/handlers.py",
        "            require_one_row(body, len(self._known))\n", "",
        "unit/serving/test_batch_body.py::test_a_single_row_with_thousands_of_values_costs_no_error_for_each",
        area=Area.SERVICE,
    ),
    _code(
        "key that consists of words accepted", "serving/http/api_keys.py",
        "random_bits(key) < LEAST_BITS or ", "",
        "unit/serving/test_keys.py::test_an_invalid_key_is_refused_without_being_shown", area=Area.SERVICE,
    ),
    _code(
        "cell of another type that holds up all records", "serving/prediction_log/outbox_files.py",
        "iif(typeof(rows) = 'integer' AND rows BETWEEN 1 AND {1 << 30}, rows, 1)", "rows",
        "unit/serving/test_shipper.py::test_a_cell_of_any_type_holds_up_no_record", area=Area.SERVICE,
    ),
    _code(
        "outbox with a layout that refuses every record used", "serving/prediction_log/outbox_files.py",
        "if statement not in _KNOWN", "if not statement",
        "unit/serving/test_outbox.py::test_a_file_that_is_no_outbox_is_moved_aside", area=Area.SERVICE,
    ),
    _code(
        "batch with any number of values is parsed", "serving/batch_body.py",
        "if found > most:", "if False:",
        "unit/serving/test_batch_body.py::test_too_many_rows_are_counted_and_not_parsed", area=Area.SERVICE,
    ),
    _code(
        "connections without a time limit", "serving/http/connection.py",
        "            self._timer = self.loop.call_later(self.limiter.seconds, self._late)\n\n    def connection_lost",
        "            pass\n\n    def connection_lost",
        "integration/serving/test_connections.py::test_a_connection_without_a_complete_head_is_closed_in_time",
        area=Area.SERVICE,
    ),
    _code(
        "head without a time limit that begins during an answer", "serving/http/connection.py",
        "if not (self._whole or self._busy() or self._timer or self.transport.is_closing()):", "if False:",
        "integration/serving/test_connections.py::test_a_head_that_begins_before_the_answer_has_a_time_limit_after_it",
        area=Area.SERVICE,
    ),
    _code(
        "head of any size during an answer", "serving/http/connection.py",
        "                self.flow.hold()\n", "                pass\n",
        "integration/serving/test_connections.py"
        "::test_nothing_of_a_further_head_is_kept_while_a_request_is_answered",
        area=Area.SERVICE,
    ),
    _code(
        "read for each request of a pipeline that is answered", "serving/http/connection.py",
        "self.flow.held = len(self.pipeline) > 1 or bool(self.pipeline and self._in_head)", "self.flow.held = False",
        "integration/serving/test_connections.py::test_nothing_is_read_while_requests_wait_for_their_turn",
        area=Area.SERVICE,
    ),
    _code(
        "answer to a request replaced by the refusal of what follows it", "serving/http/connection.py",
        "elif self._in_head or self._whole or self.pipeline:", "elif False:",
        "integration/serving/test_connections.py"
        "::test_what_is_no_request_takes_no_answer_from_the_requests_before_it",
        area=Area.SERVICE,
    ),
    _code(
        "requests of a whole read parsed at once", "serving/http/connection.py",
        "if len(data) > PIECE_BYTES:", "if False:",
        "integration/serving/test_connections.py::test_nothing_is_read_while_requests_wait_for_their_turn",
        area=Area.SERVICE,
    ),
    _code(
        "headers of any size after a body", "serving/http/connection.py",
        "            elif self._head > HEAD_BYTES:", "            elif False:",
        "integration/serving/test_connections.py::test_headers_after_a_body_have_a_limit_of_size_too",
        area=Area.SERVICE,
    ),
    _code(
        "any number of connections from one address", "serving/http/connection.py",
        "if self._of[address] > self.most_of_one:", "if False:",
        "integration/serving/test_connections.py::test_there_are_at_most_so_many_connections_from_an_address_and_in_all",
        area=Area.SERVICE,
    ),
    _code(
        "names that the contract does not know are returned", "serving/http/problems.py",
        'if not (isinstance(part, int) or part in known if location else part == "data"):', "if False:",
        "unit/serving/test_problems.py::test_nothing_personal_is_returned_or_logged", area=Area.SERVICE,
    ),
    _code(
        "error of the registry that is not translated", "registry/versions.py",
        "@translate_mlflow_errors\nclass Registry", "class Registry",
        "unit/registry/test_versions.py::test_a_registry_that_does_not_answer_is_named",
    ),
]  # fmt: skip

ACCESS = "unit/serving/test_access.py"
HANGING = "unit/serving/test_limits.py"
DEPLOYED = "unit/deployment/test_deployed_image.py::test_a_deployment_runs_and_records_the_given_digest"

TRAINING_DAG = "integration/dags/test_training_dag.py"
TASK_SAYS = "unit/dags/test_stage.py::test_a_task_says_and_leaves_no_secret_of_its_worker"

# What is told to whom.
SAID = [
    _code(
        "environment of a command in the log of its task", "airflow/runners/process.py",
        '        error = ""\n', '        error = ""\n        logger.debug("in %s", environment)\n', TASK_SAYS,
    ),
    _code(
        "command that goes on without its killed worker", "airflow/runners/process.py",
        "if os.getppid() != supervisor:", "if not supervisor:",
        "unit/dags/test_stage.py::test_a_stage_ends_with_its_worker",
    ),
    _code(
        "silent command that goes on without its killed worker", "airflow/runners/process.py",
        "                    process.wait()  # it may have closed its standard error before\n", "",
        "unit/dags/test_stage.py::test_a_stage_ends_with_its_worker",
    ),
    _code(
        "command without its worker that ends only if it wants to", "airflow/runners/process.py",
        "self._send(signal.SIGKILL)", "self._send(signal.SIGTERM)",
        "unit/dags/test_stage.py::test_a_stage_without_its_worker_is_asked_once_to_end_and_then_killed",
    ),
    _code(
        "deployment to the machine of any worker", "airflow/stage.py",
        "        if on_worker:", "        if not on_worker:",
        "unit/dags/test_stage.py::test_what_acts_on_the_machine_runs_on_the_worker",
    ),
    _code(
        "credentials of MLflow in the link of a task", "airflow/stage.py",
        "self.links = links(settings.mlflow_url, report)", "self.links = links(settings.tracking_uri, report)", TASK_SAYS,
    ),
    _code(
        "link of a task to the version with the number of the run", "airflow/links.py",
        'VersionLink.name: report.get("version")', 'VersionLink.name: report.get("run_id ")',
        "unit/dags/test_stage.py::test_a_task_links_to_the_run_and_the_version_in_mlflow",
    ),
    Defect(
        name="asset event with the metrics of the champion before", area=Area.CODE,
        gate=Tests(f"tests/{TRAINING_DAG}::test_a_first_model_is_promoted"),
        plant=_edit("dags/continuous_training.py", '"metrics": outcome["candidate"]', '"metrics": outcome["champion"]'),
    ),
    Defect(
        name="backfill that is judged by the day that it is for", area=Area.CODE,
        gate=Tests(f"tests/{TRAINING_DAG}::test_a_model_for_a_day_long_past_is_not_promoted"),
        plant=_edit(
            "dags/continuous_training.py", "\"{{ ti.xcom_pull(task_ids='finish')['run_id'] }}\"]",
            "\"{{ ti.xcom_pull(task_ids='finish')['run_id'] }}\", \"--today\", BASE_DT]",
        ),
    ),
    Defect(
        name="key of the API as an argument of the build of an image", area=Area.CODE,
        gate=Tests("tests/unit/deployment/test_image_build.py::test_no_secret_of_the_environment_reaches_a_build"),
        plant=_edit(
            "scripts/images.py", "given = {**labels, ",
            'given = {**labels, "KEYS": os.environ.get("CTCD_API_KEYS", ""), ',
        ),
    ),
    _code(
        "settings of a container among the arguments of Docker", "deployment/compose.py",
        "os.fspath(files[0]), *arguments]",
        'os.fspath(files[0]), *arguments, *(f"--env={each}" for each in self._passed_on().items())]', DEPLOYED,
    ),
]  # fmt: skip

FORM = "unit/serving/test_pages.py"
IN_BROWSER = "browser/test_form.py"

# What the pages of the service show.
SHOWN = [
    _code(
        "column without a field in the form", "templates/page/predict.html.j2",
        "{%- for field in fields %}", "{%- for field in fields[1:] %}",
        f"{FORM}::test_every_column_of_a_request_has_a_labelled_field", area=Area.SERVICE,
    ),
    _code(
        "text of a contract that is HTML", "html_report.py", "autoescape=True", "autoescape=False",
        f"{FORM}::test_no_text_of_a_contract_is_html", area=Area.SERVICE,
    ),
    _code(
        "page on which any script may run", "serving/http/page.py",
        "return f\"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'\"", "return f\"'unsafe-inline'{text[:0]}\"",
        f"{FORM}::test_only_the_scripts_of_a_page_can_run", area=Area.SERVICE,
    ),
    _code(
        "page that goes on to show the version that answered first", "templates/page/predict.js",
        "body.model_version]", "(form.dataset.version ??= body.model_version)]",
        f"{IN_BROWSER}::test_the_version_shown_is_that_of_the_answer", area=Area.SERVICE,
    ),
    _code(
        "large whole number that the page rounds", "templates/page/predict.js",
        "? input.value :", "? JSON.stringify(Number(input.value)) :",
        "browser/test_kinds.py::test_a_large_whole_number_is_sent_as_it_was_typed", area=Area.SERVICE,
    ),
    _code(
        "probabilities beside other classes", "templates/page/predict.js",
        "of Object.entries(body.probabilities))",
        "of Object.entries(body.probabilities).map(([name], at, all) => [name, all.at(-1 - at)[1]]))",
        f"{IN_BROWSER}::test_a_row_is_sent_and_the_answer_is_shown", area=Area.SERVICE,
    ),
    _code(
        "problem without a field", "templates/page/predict.js", "if (place) mark(place, text);", "if (place) elsewhere.push(text);",
        f"{IN_BROWSER}::test_problems_are_shown_beside_their_fields", area=Area.SERVICE,
    ),
]  # fmt: skip

COMPOSITIONS = "patterns/test_patterns.py::test_a_composition_answers_as_its_models_do_in_one_process"


def _composed(name: str, module: str, old: str, new: str, test: str) -> Defect:
    plant = _edit(f"examples/patterns/{module}.py", old, new)
    return Defect(name=name, area=Area.SERVICE, gate=Tests(f"tests/{test}"), plant=plant)


CACHE = "unit/serving/test_cache.py"
OTHERS_ANSWER = f"{CACHE}::test_another_version_never_gives_this_ones_answer"

# The cache of answers.
CACHED = [
    _code(
        "version that is not in the key of the cache", "serving/cache.py",
        "info.model_name, info.version, info.run_id,", "info.model_name, info.run_id,", f"{OTHERS_ANSWER}[changed0]",
        area=Area.SERVICE,
    ),
    _code(
        "training run that is not in the key of the cache", "serving/cache.py",
        "info.model_name, info.version, info.run_id,", "info.model_name, info.version,", f"{OTHERS_ANSWER}[changed1]",
        area=Area.SERVICE,
    ),
    _code(
        "version of the contract that is not in the key of the cache", "serving/cache.py",
        "info.run_id, scorer.contract_version]", "info.run_id]",
        f"{CACHE}::test_another_version_of_the_contract_never_gives_this_ones_answer", area=Area.SERVICE,
    ),
    _code(
        "input that is not in the key of the cache", "serving/cache.py",
        "for name in self.inputs]", "for name in self.inputs[:-1]]",
        f"{CACHE}::test_only_what_the_model_reads_is_in_the_key", area=Area.SERVICE,
    ),
    _code(
        "answer from the cache that is not logged", "serving/predictor.py",
        "        self._outbox.append([self._record(batch, part) for part in parts], [len(part.places) for part in parts])",
        '        getattr(models.champion.scorer, "cache", None) or self._outbox.append(\n            [self._record(batch, part) for part in parts], [len(part.places) for part in parts]\n        )',
        f"{CACHE}::test_every_hit_is_logged_as_an_answer_of_its_own", area=Area.SERVICE,
    ),
    _code(
        "damaged answer of the cache that is given", "serving/cache.py",
        "blake2b(key + body, digest_size=SEAL_BYTES).digest() == seal else None", "body else None",
        f"{CACHE}::test_what_was_not_stored_under_its_key_is_computed", area=Area.SERVICE,
    ),
    _code(
        "cache that hangs and is asked for every row", "serving/cache.py",
        "time.monotonic() + PAUSE_SECONDS", "time.monotonic()",
        f"{CACHE}::test_a_server_that_does_not_answer_is_waited_for_once", area=Area.SERVICE,
    ),
    _code(
        "cache whose reads wait for its writes", "serving/cache.py",
        "self._writer.submit(", "self._reader.submit(", f"{CACHE}::test_a_read_does_not_wait_for_writes",
        area=Area.SERVICE,
    ),
    _code(
        "cache that is written in calls of any size", "serving/cache.py",
        "\nPIECE = 100\n", "\nPIECE = 10_000\n", f"{CACHE}::test_a_read_does_not_wait_for_writes",
        area=Area.SERVICE,
    ),
    _code(
        "cache that nobody has asked for", "serving/runtime.py",
        "if not settings.cache_url.get_secret_value():", "if False:",
        f"{CACHE}::test_without_the_setting_a_model_answers_by_itself", area=Area.SERVICE,
    ),
]  # fmt: skip

# Compositions of several services.
COMPOSED = [
    _composed(
        "branch of an ensemble that fails and is left out", "ensemble",
        "raise ServiceUnavailable(f\"no answer from {', '.join(failed)}; try again later\") from reason",
        "found = {name: answer for name, answer in found.items() if name not in failed}",
        "patterns/test_patterns.py::test_a_branch_that_fails_is_not_left_out",
    ),
    _composed(
        "ensemble that gives the answer of one branch", "ensemble",
        "np.mean(list(found.values()), axis=0)", 'np.asarray(found["first"])', f"{COMPOSITIONS}[ensemble]",
    ),
    _composed(
        "chain whose second model is not given the answer of the first", "chain",
        "column_of(CONTRACT): answer", "column_of(CONTRACT): CONTRACT.classes[0]", f"{COMPOSITIONS}[chain]",
    ),
    _composed(
        "broken connection to a part that fails the request", "parts",
        "except ClientError as error:", "except ZeroDivisionError as error:",
        "patterns/test_patterns.py::test_a_call_that_breaks_is_tried_again",
    ),
    _composed(
        "connections to a part that are closed with their requests", "parts",
        ', "runner_connection": {"max_requests": 2**31, "max_age": 1e9}', "",
        "patterns/test_patterns.py::test_connections_to_parts_are_kept",
    ),
    _composed(
        "answer of a composition that is not logged", "parts",
        "        self._outbox.append([record], [1])\n", "", f"{COMPOSITIONS}[split]",
    ),
]  # fmt: skip

SITE = "unit/monitoring/test_site.py::test_the_site_says_what_is_on_record"

# What the report site shows.
REPORTED = [
    _code(
        "days among the weeks of the report site", "monitoring/site.py",
        "columns.period == period.value, columns.first_day.in_(days)", "columns.first_day.in_(days)", SITE,
    ),
    _code(
        "days left out of the drift of the report site", "monitoring/site.py",
        'sorted((each for each in (*days, *weeks) if', 'sorted((each for each in weeks if', SITE,
    ),
    _code(
        "two runs of one number on one line of the report site", "monitoring/plots.py",
        """ + (f", run {row['run_id'][:8]}" if row["run_id"] else "")""", "",
        "unit/monitoring/test_site.py::test_two_runs_of_one_number_are_two_lines",
    ),
    _code(
        "drift drawn without its limit", "monitoring/plots.py",
        'ratio = each["distance"] / each["distance_limit"]', 'ratio = each["distance"]',
        "unit/monitoring/test_site.py::test_drift_is_drawn_as_a_multiple_of_its_limit",
    ),
    _code(
        "evidence of another version in the report site", "monitoring/site.py",
        "registry.decision_pages(each.version)", "registry.decision_pages(registry.versions()[0].version)", SITE,
    ),
    _code(
        "deleted run that keeps the report site from being written", "monitoring/site.py",
        "except NotFound:  # its run was deleted", "except ZeroDivisionError:",
        "unit/monitoring/test_site.py::test_a_version_whose_run_is_gone_is_shown_without_its_evidence",
    ),
    _code(
        "closed finding counted as open in the report site", "monitoring/site.py",
        "sum(each.closed_on is None for each in found)", "len(found)", SITE,
    ),
]  # fmt: skip

# Who may request what, and what runs in the end.
SHIPPED = [
    _code(
        "route opened in the table", "serving/http/routes.py",
        'name="model_info",\n', 'name="model_info",\n        access=Access.OPEN,\n',
        f"{ACCESS}::test_what_is_not_open_is_refused", area=Area.SERVICE,
    ),
    _code(
        "paths opened that only begin like open ones", "serving/http/routes.py",
        "Access.OPEN if path.startswith(STATIC)", 'Access.OPEN if path.startswith((STATIC, "/docs"))',
        f"{ACCESS}::test_what_is_not_open_is_refused", area=Area.SERVICE,
    ),
    _code(
        "key that counts in another header, too", "serving/http/api_keys.py",
        "if name == HEADER)", 'if name in (HEADER, b"authorization"))',
        f"{ACCESS}::test_a_key_counts_in_its_header_only", area=Area.SERVICE,
    ),
    _code(
        "methods that need no key", "serving/http/middleware.py",
        'refused = self._guard.check(path, scope["headers"])',
        'refused = None if scope["method"] == "OPTIONS" else self._guard.check(path, scope["headers"])',
        f"{ACCESS}::test_what_is_not_open_is_refused", area=Area.SERVICE,
    ),
    _code(
        "body that is waited for without a limit", "serving/http/handlers.py",
        "        async with asyncio.timeout(self._limits.request_seconds):\n"
        "            body = await _body(request, trace, self._limits.request_max_bytes)\n",
        "        body = await _body(request, trace, self._limits.request_max_bytes)\n"
        "        async with asyncio.timeout(self._limits.request_seconds):\n",
        f"{HANGING}::test_a_body_that_does_not_arrive_is_refused_in_time", area=Area.SERVICE,
    ),
    _code(
        "late prediction that is called a late body", "serving/http/handlers.py",
        "    trace.arrived = True\n", "",
        f"{HANGING}::test_a_disk_that_hangs_does_not_block_a_request", area=Area.SERVICE,
    ),
    _code(
        "metrics open to every client with a key of the API", "serving/http/api_keys.py",
        'Keyring(settings.metrics_keys, "CTCD_METRICS_KEYS") or api', "api",
        f"{ACCESS}::test_the_key_of_its_scope_opens_a_route", area=Area.SERVICE,
    ),
    _code(
        "tag of the verified image deployed to a Docker host", "deployment/compose.py",
        '"IMAGE": image,', '"IMAGE": image.partition("@")[0],', DEPLOYED,
    ),
    _code(
        "tag of the verified image deployed to a cluster", "deployment/kubernetes.py",
        "(IMAGE, image), (SLUG", '(IMAGE, image.partition("@")[0]), (SLUG', DEPLOYED,
    ),
    _code(
        "image of an earlier release deployed in place of the verified one", "stages/deployment.py",
        "image = image or released_image(", "image = released_image(", DEPLOYED,
    ),
]  # fmt: skip

FOUND, OPEN = "unit/monitoring/test_findings.py", "monitoring/findings.py"
FLOORS, OF_STAGES = "unit/monitoring/test_floors.py", "unit/stages/test_findings.py"

FINDINGS = [
    _code(
        "finding closed by itself when it is seen again", OPEN,
        "values(last_seen=day)", "values(last_seen=day, is_open=None)",
        f"{FOUND}::test_an_open_finding_is_raised_once_and_stays_open",
    ),
    _code(
        "finding closed by itself when the next snapshot is accepted", "stages/data.py",
        "    return day, report",
        "    with store.begin() as connection:\n"
        "        from ctcd.store.tables import build_tables\n\n"
        "        connection.execute(build_tables(contract).findings.update().values(is_open=None))\n"
        "    return day, report",
        f"{OF_STAGES}::test_a_refused_snapshot_is_a_finding_until_somebody_closes_it",
    ),
    _code(
        "finding that is closed for good", OPEN,
        "if closed is None or day >= closed:", "if closed is None:",
        f"{FOUND}::test_a_closed_finding_is_kept_and_raised_anew_if_it_comes_again",
    ),
    _code(
        "closed finding raised again by a backfill", OPEN,
        "if closed is None or day >= closed:", "if True:",
        f"{FOUND}::test_a_closed_finding_is_kept_and_raised_anew_if_it_comes_again",
    ),
    _code(
        "finding whose first reason is overwritten", OPEN,
        "update(table).where(table.c.id == number, table.c.is_open)", "update(table).where(table.c.id == number)",
        f"{FOUND}::test_the_first_reason_stays",
    ),
    _code(
        "personal data in the evidence of a finding", OPEN,
        'raise TypeError(f"evidence is numbers, not {type(evidence).__name__}")', "return str(evidence)",
        f"{FOUND}::test_evidence_is_numbers",
    ),
    _code(
        "findings that start one training after the other", OPEN,
        "if last is not None and today < last + cool_down:", "if last is not None and today < last:",
        f"{FOUND}::test_a_finding_starts_a_training_once_in_the_cool_down",
    ),
    _code(
        "two monitors that start a training each", OPEN,
        ".with_for_update()", "",
        "integration/monitoring/test_findings.py::test_a_monitor_waits_for_one_that_starts_a_training",
    ),
    _code(
        "findings that start trainings although that is off", "stages/findings.py",
        "if not settings.train_on_findings:", "if settings.train_on_findings is None:",
        f"{OF_STAGES}::test_findings_start_a_training_only_if_the_settings_let_them",
    ),
    Defect(
        name="event of a finding that starts no workflow", area=Area.WORKFLOW,
        gate=Tests("tests/unit/deployment/test_scripts.py::test_a_finding_starts_the_workflow_that_trains"),
        plant=_edit("scripts/start_training.py", 'EVENT = "finding"', 'EVENT = "findings"'),
    ),
    _code(
        "score below its floor by chance taken for a finding", "monitoring/floors.py",
        "if score.upper < score.floor:", "if score.value < score.floor:", f"{FLOORS}::test_chance_is_no_finding",
    ),
    _code(
        "labels that stay away and nobody misses", "monitoring/floors.py",
        "and not labelled", "and labelled < 0", f"{FLOORS}::test_labels_that_stay_away_are_a_finding",
    ),
]  # fmt: skip

ALERTED, ON_METRICS = "alerts/test_alerts.py", "unit/test_compose.py::test_every_{}"
RULES_YML = "docker/prometheus/rules.yml"

WATCHED = [
    Defect(
        name=name, area=Area.SERVICE, gate=Tests(f"tests/{test}"), plant=_edit(path, old, new),
    )
    for name, path, old, new, test in (
        (
            "alert that never fires, because its label is gone", RULES_YML,
            'increase(ctcd_model_swaps_total{outcome="refused"}[15m])', 'increase(ctcd_model_swaps_total{result="refused"}[15m])',
            ON_METRICS.format("alert_uses_metrics_that_the_service_exports"),
        ),
        (
            "alert that never fires, because nothing is called so", RULES_YML,
            'up{job="api"} == 0', 'up{job="service"} == 0',
            f"{ALERTED}::test_every_alert_fires_when_it_should_and_only_then",
        ),
        (
            "alert that never fires, because a rate is of less than two samples", RULES_YML,
            "rate(ctcd_outbox_failures_total[5m])", "rate(ctcd_outbox_failures_total[15s])",
            f"{ALERTED}::test_every_alert_fires_when_it_should_and_only_then",
        ),
        (
            "alert of one model that fires for another", RULES_YML,
            "min by (model) (ctcd_registry_followed) == 0", "ctcd_registry_followed * 0 == 0",
            f"{ALERTED}::test_every_alert_fires_when_it_should_and_only_then",
        ),
        (
            "panel with a metric that is gone", f"{SRC}/serving/metrics.py",
            '"ctcd_outbox_shipped"', '"ctcd_outbox_sent"',
            ON_METRICS.format("panel_shows_metrics_that_the_service_exports"),
        ),
        (
            "panel that was changed by hand", "docker/grafana/dashboards/service.json",
            '"title": "Failed share"', '"title": "Failures"',
            "unit/test_compose.py::test_the_dashboards_are_those_that_the_script_writes",
        ),
        (
            "query of a panel that cannot be parsed", "docker/grafana/dashboards/prediction-log.json",
            'sum by (model) (ctcd_outbox_dead_letters{model=~\\"$model\\"})', 'sum by (model) ctcd_outbox_dead_letters{model=~\\"$model\\"}',
            f"{ALERTED}::test_every_query_of_a_dashboard_is_one",
        ),
    )
]  # fmt: skip

CHALLENGED, SEQUENTIAL = "integration/promotion/test_traffic.py", "unit/traffic/test_sequential.py"
JUDGING, OBSERVED = "unit/traffic/test_judging.py", "unit/traffic/test_observed.py"

JUDGED = [
    _code(
        "withdrawal that only logs", "registry/versions.py",
        "            self._mark_rolled_back(info.version, reason)\n        traffic.clear(self.client, self._name)\n",
        "            pass\n",
        f"{CHALLENGED}::test_a_bad_challenger_withdraws_itself",
    ),
    _code(
        "withdrawn challenger that may be promoted", "registry/versions.py",
        "        if lost:\n            self._mark_rolled_back(info.version, reason)\n", "",
        f"{CHALLENGED}::test_a_bad_challenger_withdraws_itself",
    ),
    _code(
        "challenger withdrawn without a finding", "stages/traffic.py",
        "(_raise(settings, experiment, report.measures),)", "()",
        f"{CHALLENGED}::test_a_bad_challenger_withdraws_itself",
    ),
    _code(
        "promotion around the gate", "stages/traffic.py",
        "            registry.require_pass(info.version)\n", "            pass\n",
        f"{CHALLENGED}::test_no_promotion_goes_around_the_gate",
    ),
    _code(
        "promotion that the policy does not ask for", "stages/traffic.py",
        "report.verdict is Verdict.PROMOTE and limits.promote", "report.verdict is Verdict.PROMOTE",
        f"{CHALLENGED}::test_a_good_challenger_goes_on_step_by_step",
    ),
    _code(
        "challenger that the gate has not passed", "registry/versions.py",
        "        self.require_pass(experiment.version)\n", "",
        f"{CHALLENGED}::test_only_what_the_gate_has_passed_challenges",
    ),
    _code(
        "experiment that is on record only", "registry/versions.py",
        "        traffic.write(self.client, self._name, experiment)\n", "",
        f"{CHALLENGED}::test_an_experiment_is_started_changed_and_ended_on_record",
    ),
    _code(
        "interval of a fixed sample", "traffic/sequential.py",
        "    limit = math.log(1 / error)\n\n    def explained(share: float)",
        "    limit = math.log(1 / error) - math.log(rows + 1) / 2\n\n    def explained(share: float)",
        f"{SEQUENTIAL}::test_the_interval_of_a_share_holds_at_every_look",
    ),
    _code(
        "mixture that is not one", "traffic/sequential.py",
        "- math.lgamma(rows + 1) - math.log(math.pi)", "- math.lgamma(rows + 1)",
        f"{SEQUENTIAL}::test_the_mixture_has_an_expectation_of_one",
    ),
    _code(
        "probability of a false withdrawal for each interval", "traffic/judging.py",
        "limits.false_withdrawals / (intervals * stage.steps)", "limits.false_withdrawals",
        f"{JUDGING}::test_more_steps_and_fewer_false_withdrawals_take_wider_intervals",
    ),
    _code(
        "champion and challenger swapped", "stages/traffic.py",
        "judge(theirs, mine, limits,", "judge(mine, theirs, limits,",
        f"{CHALLENGED}::test_a_bad_challenger_withdraws_itself",
    ),
    _code(
        "times of champion and challenger swapped", "traffic/judging.py",
        "(time_interval(each, part, error) for each in (challenger, champion))",
        "(time_interval(each, part, error) for each in (champion, challenger))",
        f"{JUDGING}::test_a_broken_limit_withdraws_the_challenger",
    ),
    _code(
        "accuracy that is better taken for worse", "traffic/judging.py",
        "drop = _difference(theirs, mine)", "drop = _difference(mine, theirs)",
        f"{JUDGING}::test_a_broken_limit_withdraws_the_challenger",
    ),
    _code(
        "requests of one group that count as independent", "traffic/judging.py",
        "return self.effective / self.requests if self.requests else 0.0", "return 1.0 if self.requests else 0.0",
        f"{JUDGING}::test_rows_of_one_group_count_less",
    ),
    _code(
        "failures of one group that withdraw a challenger", "traffic/judging.py",
        "min(challenger.failed * challenger.independent, challenger.failing)", "challenger.failed * challenger.independent",
        f"{JUDGING}::test_one_group_that_fails_again_and_again_is_one_failure",
    ),
    _code(
        "step that is promoted though the policy has it no longer", "traffic/judging.py",
        "    if not stage.allowed:\n", "    if False:\n",
        f"{JUDGING}::test_traffic_that_the_policy_has_no_more_does_not_go_on",
    ),
    _code(
        "experiment that cannot be ended", "stages/traffic.py",
        "if not registry.clear_challenge(", "if True or not registry.clear_challenge(",
        f"{CHALLENGED}::test_whatever_runs_can_be_ended",
    ),
    _code(
        "step that ends on missing evidence", "traffic/judging.py",
        "if each.blocks and each.state is State.OPEN", "if each.blocks and each.state is State.BROKEN",
        f"{JUDGING}::test_missing_evidence_waits",
    ),
    _code(
        "failures of the challenger that are not counted", "traffic/observed.py",
        "_seen(connection, contract, mine | failed, mine, labels[answering])",
        "_seen(connection, contract, mine, mine, labels[answering])",
        f"{OBSERVED}::test_each_variant_has_its_own_requests",
    ),
    _code(
        "failures of a shadow that are not counted", "traffic/observed.py",
        "(Variant.SHADOW, Variant.SHADOW_FAILED) if shadow", "(Variant.SHADOW, Variant.FALLBACK) if shadow",
        f"{OBSERVED}::test_a_shadow_that_failed_has_failed_like_a_canary",
    ),
    _code(
        "failures of a shadow that are not judged", "traffic/judging.py",
        '    yield _measure("errors",', '    if not shadow:\n        yield _measure("errors",',
        f"{JUDGING}::test_a_broken_limit_withdraws_the_challenger",
    ),
    _code(
        "requests of an earlier step that count", "traffic/observed.py",
        "since = datetime.fromisoformat(experiment.effective)", "since = datetime.fromisoformat(experiment.started) - timedelta(days=1)",
        f"{OBSERVED}::test_other_rows_are_not_counted",
    ),
    _code(
        "history in which a challenger is the champion", "registry/history.py",
        "        if each.what not in (What.PROMOTED, What.ROLLED_BACK, What.DEPLOYED, *ended):\n            continue\n", "",
        "unit/stages/test_audit.py::test_every_second_has_its_version",
    ),
]  # fmt: skip

DEFECTS = [
    *TRAINING,
    *MODEL,
    *PROMOTION,
    *STORE,
    *SERVICE,
    *REQUESTED,
    *UPLOADED,
    *BROKERED,
    *PAYLOAD,
    *INSTANCES,
    *SAID,
    *SHOWN,
    *CACHED,
    *COMPOSED,
    *REPORTED,
    *SHIPPED,
    *FINDINGS,
    *WATCHED,
    *JUDGED,
]
