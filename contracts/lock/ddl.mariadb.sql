CREATE TABLE credit_predictions_api_log (
	id BIGINT NOT NULL AUTO_INCREMENT,
	customer_id INTEGER NOT NULL,
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
	CONSTRAINT pk_credit_predictions_api_log PRIMARY KEY (id),
	CONSTRAINT uq_credit_predictions_api_log_request_id UNIQUE (request_id)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;

CREATE INDEX ix_credit_predictions_api_log_created_at ON credit_predictions_api_log (created_at);

CREATE TABLE credit_score (
	id INTEGER NOT NULL,
	customer_id INTEGER NOT NULL,
	date DATE NOT NULL,
	credit_score VARCHAR(64) NOT NULL,
	CONSTRAINT pk_credit_score PRIMARY KEY (id, customer_id, date)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;

CREATE INDEX ix_credit_score_date ON credit_score (date);

CREATE TABLE credit_score_batch_scores (
	id INTEGER NOT NULL,
	customer_id INTEGER NOT NULL,
	date DATE NOT NULL,
	model_version VARCHAR(64) NOT NULL,
	run_id VARCHAR(64) NOT NULL DEFAULT '',
	prediction VARCHAR(64) NOT NULL,
	confidence DOUBLE NOT NULL,
	scored_at DATETIME(6) NOT NULL,
	probabilities JSON,
	contract_version VARCHAR(64),
	served_by VARCHAR(500),
	variant VARCHAR(64),
	CONSTRAINT pk_credit_score_batch_scores PRIMARY KEY (id, customer_id, date, model_version, run_id)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE credit_score_drift (
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
	CONSTRAINT pk_credit_score_drift PRIMARY KEY (period, first_day, source, model_version, run_id, feature)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE credit_score_features (
	id INTEGER NOT NULL,
	customer_id INTEGER NOT NULL,
	date DATE NOT NULL,
	name VARCHAR(100),
	age INTEGER NOT NULL,
	ssn VARCHAR(20),
	occupation VARCHAR(64) NOT NULL,
	annual_income DOUBLE NOT NULL,
	monthly_inhand_salary DOUBLE NOT NULL,
	num_bank_accounts DOUBLE NOT NULL,
	num_credit_card DOUBLE NOT NULL,
	interest_rate DOUBLE NOT NULL,
	num_of_loan INTEGER NOT NULL,
	type_of_loan VARCHAR(512) NOT NULL,
	delay_from_due_date DOUBLE NOT NULL,
	num_of_delayed_payment DOUBLE NOT NULL,
	changed_credit_limit DOUBLE NOT NULL,
	num_credit_inquiries DOUBLE NOT NULL,
	credit_mix VARCHAR(64) NOT NULL,
	outstanding_debt DOUBLE NOT NULL,
	credit_utilization_ratio DOUBLE NOT NULL,
	credit_history_age DOUBLE NOT NULL,
	payment_of_min_amount VARCHAR(64) NOT NULL,
	total_emi_per_month DOUBLE NOT NULL,
	amount_invested_monthly DOUBLE NOT NULL,
	payment_behaviour VARCHAR(64),
	monthly_balance DOUBLE NOT NULL,
	CONSTRAINT pk_credit_score_features PRIMARY KEY (id, customer_id, date)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE credit_score_features_target (
	base_dt DATE NOT NULL,
	id INTEGER NOT NULL,
	customer_id INTEGER NOT NULL,
	age INTEGER NOT NULL,
	occupation VARCHAR(64) NOT NULL,
	annual_income DOUBLE NOT NULL,
	monthly_inhand_salary DOUBLE NOT NULL,
	num_bank_accounts DOUBLE NOT NULL,
	num_credit_card DOUBLE NOT NULL,
	interest_rate DOUBLE NOT NULL,
	num_of_loan INTEGER NOT NULL,
	type_of_loan VARCHAR(512) NOT NULL,
	delay_from_due_date DOUBLE NOT NULL,
	num_of_delayed_payment DOUBLE NOT NULL,
	changed_credit_limit DOUBLE NOT NULL,
	num_credit_inquiries DOUBLE NOT NULL,
	credit_mix VARCHAR(64) NOT NULL,
	outstanding_debt DOUBLE NOT NULL,
	credit_utilization_ratio DOUBLE NOT NULL,
	credit_history_age DOUBLE NOT NULL,
	payment_of_min_amount VARCHAR(64) NOT NULL,
	total_emi_per_month DOUBLE NOT NULL,
	amount_invested_monthly DOUBLE NOT NULL,
	payment_behaviour VARCHAR(64),
	monthly_balance DOUBLE NOT NULL,
	credit_score VARCHAR(64) NOT NULL,
	date DATE,
	CONSTRAINT pk_credit_score_features_target PRIMARY KEY (base_dt, id, customer_id)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE credit_score_findings (
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
	CONSTRAINT pk_credit_score_findings PRIMARY KEY (id),
	CONSTRAINT uq_credit_score_findings UNIQUE (kind, subject, is_open)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE credit_score_performance (
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
	CONSTRAINT pk_credit_score_performance PRIMARY KEY (period, first_day, model_version, run_id)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE credit_score_quarantine (
	table_name VARCHAR(64) NOT NULL,
	source VARCHAR(500) NOT NULL,
	line BIGINT NOT NULL,
	reasons JSON NOT NULL,
	record JSON NOT NULL,
	CONSTRAINT pk_credit_score_quarantine PRIMARY KEY (table_name, source, line)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE credit_score_snapshot_profile (
	day DATE NOT NULL,
	profile JSON NOT NULL,
	CONSTRAINT pk_credit_score_snapshot_profile PRIMARY KEY (day)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE credit_score_sources (
	table_name VARCHAR(64) NOT NULL,
	sha256 VARCHAR(64) NOT NULL,
	source VARCHAR(500) NOT NULL,
	read_rows BIGINT NOT NULL,
	written_rows BIGINT NOT NULL,
	ingested_at DATETIME(6) NOT NULL,
	CONSTRAINT pk_credit_score_sources PRIMARY KEY (table_name, sha256)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE customer_info (
	id INTEGER NOT NULL,
	customer_id INTEGER NOT NULL,
	date DATE NOT NULL,
	name VARCHAR(100),
	ssn VARCHAR(20),
	CONSTRAINT pk_customer_info PRIMARY KEY (id, customer_id, date)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;
