CREATE TABLE machine_condition_batch_scores (
	reading INTEGER NOT NULL,
	machine INTEGER NOT NULL,
	day DATE NOT NULL,
	model_version VARCHAR(64) NOT NULL,
	run_id VARCHAR(64) NOT NULL DEFAULT '',
	prediction VARCHAR(64) NOT NULL,
	confidence DOUBLE NOT NULL,
	scored_at DATETIME(6) NOT NULL,
	probabilities JSON,
	contract_version VARCHAR(64),
	served_by VARCHAR(500),
	variant VARCHAR(64),
	CONSTRAINT pk_machine_condition_batch_scores PRIMARY KEY (reading, machine, day, model_version, run_id)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE machine_condition_drift (
	period VARCHAR(8) NOT NULL,
	first_day DATE NOT NULL,
	source VARCHAR(16) NOT NULL,
	model_version VARCHAR(64) NOT NULL,
	run_id VARCHAR(64) NOT NULL DEFAULT '',
	feature VARCHAR(255) NOT NULL,
	last_day DATE NOT NULL,
	`rows` BIGINT NOT NULL,
	effective_rows DOUBLE NOT NULL,
	psi DOUBLE,
	distance DOUBLE,
	distance_limit DOUBLE,
	missing DOUBLE NOT NULL,
	reference_missing DOUBLE NOT NULL,
	unseen DOUBLE,
	reference_unseen DOUBLE,
	drifted JSON NOT NULL,
	computed_at DATETIME(6) NOT NULL,
	CONSTRAINT pk_machine_condition_drift PRIMARY KEY (period, first_day, source, model_version, run_id, feature)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE machine_condition_findings (
	id BIGINT NOT NULL AUTO_INCREMENT,
	kind VARCHAR(16) NOT NULL,
	subject VARCHAR(500) NOT NULL,
	is_open BOOL,
	evidence JSON NOT NULL,
	day DATE NOT NULL,
	last_seen DATE NOT NULL,
	raised_at DATETIME(6) NOT NULL,
	trained_on DATE,
	closed_on DATE,
	closed_by VARCHAR(500),
	reason VARCHAR(500),
	CONSTRAINT pk_machine_condition_findings PRIMARY KEY (id),
	CONSTRAINT uq_machine_condition_findings UNIQUE (kind, subject, is_open)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE machine_condition_performance (
	period VARCHAR(8) NOT NULL,
	first_day DATE NOT NULL,
	model_version VARCHAR(64) NOT NULL,
	run_id VARCHAR(64) NOT NULL DEFAULT '',
	last_day DATE NOT NULL,
	predictions BIGINT NOT NULL,
	labelled BIGINT NOT NULL,
	accuracy DOUBLE,
	macro_f1 DOUBLE,
	recall JSON NOT NULL,
	confusion JSON NOT NULL,
	completeness DOUBLE,
	accuracy_low DOUBLE,
	accuracy_high DOUBLE,
	macro_f1_low DOUBLE,
	macro_f1_high DOUBLE,
	estimated_accuracy DOUBLE,
	estimated_macro_f1 DOUBLE,
	accuracy_error DOUBLE,
	macro_f1_error DOUBLE,
	recall_interval JSON,
	slices JSON,
	counts JSON,
	computed_at DATETIME(6) NOT NULL,
	CONSTRAINT pk_machine_condition_performance PRIMARY KEY (period, first_day, model_version, run_id)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE machine_condition_quarantine (
	table_name VARCHAR(64) NOT NULL,
	source VARCHAR(500) NOT NULL,
	line BIGINT NOT NULL,
	reasons JSON NOT NULL,
	record JSON NOT NULL,
	CONSTRAINT pk_machine_condition_quarantine PRIMARY KEY (table_name, source, line)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE machine_condition_snapshot_profile (
	day DATE NOT NULL,
	profile JSON NOT NULL,
	CONSTRAINT pk_machine_condition_snapshot_profile PRIMARY KEY (day)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE machine_condition_sources (
	table_name VARCHAR(64) NOT NULL,
	sha256 VARCHAR(64) NOT NULL,
	source VARCHAR(500) NOT NULL,
	read_rows BIGINT NOT NULL,
	written_rows BIGINT NOT NULL,
	ingested_at DATETIME(6) NOT NULL,
	CONSTRAINT pk_machine_condition_sources PRIMARY KEY (table_name, sha256)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE machine_conditions (
	reading INTEGER NOT NULL,
	machine INTEGER NOT NULL,
	day DATE NOT NULL,
	`condition` VARCHAR(64) NOT NULL,
	CONSTRAINT pk_machine_conditions PRIMARY KEY (reading, machine, day)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;

CREATE INDEX ix_machine_conditions_day ON machine_conditions (day);

CREATE TABLE machine_operators (
	reading INTEGER NOT NULL,
	machine INTEGER NOT NULL,
	day DATE NOT NULL,
	operator VARCHAR(100),
	badge VARCHAR(20),
	CONSTRAINT pk_machine_operators PRIMARY KEY (reading, machine, day)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE machine_predictions_log (
	id BIGINT NOT NULL AUTO_INCREMENT,
	machine INTEGER NOT NULL,
	features JSON NOT NULL,
	prediction VARCHAR(64) NOT NULL,
	confidence DOUBLE NOT NULL,
	elapsed_ms DOUBLE NOT NULL,
	created_at DATETIME(6) NOT NULL,
	request_id VARCHAR(36) NOT NULL,
	model_version VARCHAR(64) NOT NULL,
	run_id VARCHAR(64) NOT NULL DEFAULT '',
	probabilities JSON,
	contract_version VARCHAR(64),
	served_by VARCHAR(500),
	variant VARCHAR(64),
	CONSTRAINT pk_machine_predictions_log PRIMARY KEY (id),
	CONSTRAINT uq_machine_predictions_log_request_id UNIQUE (request_id)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;

CREATE INDEX ix_machine_predictions_log_created_at ON machine_predictions_log (created_at);

CREATE TABLE machine_readings (
	reading INTEGER NOT NULL,
	machine INTEGER NOT NULL,
	day DATE NOT NULL,
	operator VARCHAR(100),
	hours INTEGER NOT NULL,
	badge VARCHAR(20),
	maker VARCHAR(64) NOT NULL,
	power DOUBLE NOT NULL,
	output DOUBLE NOT NULL,
	num_parts INTEGER NOT NULL,
	parts VARCHAR(512) NOT NULL,
	vibration DOUBLE NOT NULL,
	stops DOUBLE NOT NULL,
	wear DOUBLE NOT NULL,
	humidity DOUBLE,
	grade VARCHAR(64) NOT NULL,
	shift VARCHAR(64),
	CONSTRAINT pk_machine_readings PRIMARY KEY (reading, machine, day)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE machine_readings_labelled (
	taken_on DATE NOT NULL,
	reading INTEGER NOT NULL,
	machine INTEGER NOT NULL,
	hours INTEGER NOT NULL,
	maker VARCHAR(64) NOT NULL,
	power DOUBLE NOT NULL,
	output DOUBLE NOT NULL,
	num_parts INTEGER NOT NULL,
	parts VARCHAR(512) NOT NULL,
	vibration DOUBLE NOT NULL,
	stops DOUBLE NOT NULL,
	wear DOUBLE NOT NULL,
	humidity DOUBLE,
	grade VARCHAR(64) NOT NULL,
	shift VARCHAR(64),
	`condition` VARCHAR(64) NOT NULL,
	day DATE,
	CONSTRAINT pk_machine_readings_labelled PRIMARY KEY (taken_on, reading, machine)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;
