BEGIN TRANSACTION;
CREATE TABLE counters (
	name VARCHAR(255) NOT NULL, 
	value BIGINT NOT NULL, 
	PRIMARY KEY (name)
);
CREATE TABLE directives (
	id VARCHAR(128) NOT NULL, 
	region VARCHAR(64) NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	ordered_at_ns BIGINT NOT NULL, 
	directive TEXT NOT NULL, 
	version BIGINT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "directives" VALUES('d1','r','ordered',1699920000000000000,'{"id":"d1","region":"r","action":"create","instance":null,"size":"small","cause":"forecast","reason":"load is coming","ordered_at_ns":1699920000000000000,"plan_generation":1,"status":"ordered","settled_at_ns":null,"outcome":""}',1);
CREATE TABLE documents (
	kind VARCHAR(64) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	body TEXT NOT NULL, 
	updated_ns BIGINT NOT NULL, 
	version BIGINT NOT NULL, 
	PRIMARY KEY (kind, name)
);
INSERT INTO "documents" VALUES('trigger','sale','{"id":"sale","start_ns":1699920000000000000,"end_ns":1699923600000000000,"name":"","region":null,"expected_factor":2.0,"expected_extra_eps":0.0}',1699920000000000000,1);
INSERT INTO "documents" VALUES('sla','>','{"filter":">","max_latency_ms":1000,"availability":0.999}',1699920000000000000,1);
INSERT INTO "documents" VALUES('memory','r','{"needs":[{"at_ns":1699920000000000000,"instances":2}],"target":2,"in_service":["b1"],"ordered_out_ns":null,"ordered_in_ns":null,"brake_since_ns":null,"began_ns":1699920000000000000,"alone":null}',1699920000000000000,1);
INSERT INTO "documents" VALUES('override','r','{"instances":3,"expires_ns":1699920060000000000,"size":null,"by":"operator"}',1699920000000000000,1);
CREATE TABLE forecasts (
	region VARCHAR(64) NOT NULL, 
	made_at_ns BIGINT NOT NULL, 
	forecast TEXT NOT NULL, 
	PRIMARY KEY (region, made_at_ns)
);
INSERT INTO "forecasts" VALUES('r',1699920000000000000,'{"region":"r","made_at_ns":1699920000000000000,"start_ns":1699920000000000000,"slot_s":300,"model":"arima","basis":"model","point_eps":[1.0,2.0],"quantiles":{"0.5":[1.0,2.0],"0.95":[3.0,4.0]},"normal_eps":[1.0,1.0],"mase":0.7,"scores":{"arima":0.7},"note":""}');
CREATE TABLE groups (
	name VARCHAR(255) NOT NULL, 
	definition TEXT NOT NULL, 
	home_region VARCHAR(64) NOT NULL, 
	version BIGINT NOT NULL, 
	PRIMARY KEY (name)
);
CREATE TABLE instances (
	id VARCHAR(64) NOT NULL, 
	region VARCHAR(64) NOT NULL, 
	size VARCHAR(64) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	node VARCHAR(128) NOT NULL, 
	host VARCHAR(255) NOT NULL, 
	port INTEGER NOT NULL, 
	directory_uuid VARCHAR(32) NOT NULL, 
	epoch BIGINT NOT NULL, 
	created_ns BIGINT NOT NULL, 
	updated_ns BIGINT NOT NULL, 
	version BIGINT NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE ledgers (
	id VARCHAR(255) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	writer VARCHAR(128) NOT NULL, 
	dispatcher VARCHAR(128) NOT NULL, 
	term BIGINT NOT NULL, 
	record TEXT NOT NULL, 
	version BIGINT NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE link_assignments (
	origin_ledger VARCHAR(255) NOT NULL, 
	receiver VARCHAR(64) NOT NULL, 
	term BIGINT NOT NULL, 
	updated_ns BIGINT NOT NULL, 
	version BIGINT NOT NULL, 
	PRIMARY KEY (origin_ledger)
);
CREATE TABLE load_history (
	region VARCHAR(64) NOT NULL, 
	slot_s INTEGER NOT NULL, 
	time_ns BIGINT NOT NULL, 
	events DOUBLE NOT NULL, 
	bytes DOUBLE NOT NULL, 
	PRIMARY KEY (region, slot_s, time_ns)
)
 WITHOUT ROWID

;
INSERT INTO "load_history" VALUES('coarse',600,1699920000000000000,600.0,6000.0);
INSERT INTO "load_history" VALUES('coarse',600,1699920600000000000,601.0,6000.0);
INSERT INTO "load_history" VALUES('coarse',600,1699921200000000000,602.0,6000.0);
INSERT INTO "load_history" VALUES('r',60,1699923300000000000,115.0,1150.0);
INSERT INTO "load_history" VALUES('r',60,1699923360000000000,116.0,1160.0);
INSERT INTO "load_history" VALUES('r',60,1699923420000000000,117.0,1170.0);
INSERT INTO "load_history" VALUES('r',60,1699923480000000000,118.0,1180.0);
INSERT INTO "load_history" VALUES('r',60,1699923540000000000,119.0,1190.0);
INSERT INTO "load_history" VALUES('r',60,1699923600000000000,120.0,1200.0);
INSERT INTO "load_history" VALUES('r',60,1699923660000000000,121.0,1210.0);
INSERT INTO "load_history" VALUES('r',60,1699923720000000000,122.0,1220.0);
INSERT INTO "load_history" VALUES('r',60,1699923780000000000,123.0,1230.0);
INSERT INTO "load_history" VALUES('r',60,1699923840000000000,124.0,1240.0);
INSERT INTO "load_history" VALUES('r',60,1699923900000000000,125.0,1250.0);
INSERT INTO "load_history" VALUES('r',60,1699923960000000000,126.0,1260.0);
INSERT INTO "load_history" VALUES('r',60,1699924020000000000,127.0,1270.0);
CREATE TABLE manager_lease (
	region VARCHAR(64) NOT NULL, 
	epoch BIGINT NOT NULL, 
	holder VARCHAR(255) NOT NULL, 
	taken_ns BIGINT NOT NULL, 
	PRIMARY KEY (region)
);
CREATE TABLE resource_metrics (
	scope VARCHAR(255) NOT NULL, 
	time_ns BIGINT NOT NULL, 
	cpu_share DOUBLE NOT NULL, 
	memory_bytes BIGINT NOT NULL, 
	received_bytes_per_s DOUBLE NOT NULL, 
	sent_bytes_per_s DOUBLE NOT NULL, 
	PRIMARY KEY (scope, time_ns)
)
 WITHOUT ROWID

;
INSERT INTO "resource_metrics" VALUES('instance/b1',1699920015000000000,0.1,1000,5.0,1.0);
INSERT INTO "resource_metrics" VALUES('instance/b1',1699920030000000000,0.2,2000,5.0,1.0);
INSERT INTO "resource_metrics" VALUES('instance/b1',1699920045000000000,3.00000000000000044408e-01,3000,5.0,1.0);
INSERT INTO "resource_metrics" VALUES('instance/b1',1699920060000000000,0.4,4000,5.0,1.0);
INSERT INTO "resource_metrics" VALUES('instance/b1',1699920075000000000,0.5,5000,5.0,1.0);
INSERT INTO "resource_metrics" VALUES('instance/b1',1699920090000000000,6.00000000000000088817e-01,6000,5.0,1.0);
INSERT INTO "resource_metrics" VALUES('instance/b1',1699920105000000000,7.00000000000000066613e-01,7000,5.0,1.0);
CREATE TABLE schema_levels (
	subject VARCHAR(512) NOT NULL, 
	level VARCHAR(32) NOT NULL, 
	PRIMARY KEY (subject)
);
CREATE TABLE schema_revision (
	id INTEGER NOT NULL, 
	revision BIGINT NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE schema_versions (
	subject VARCHAR(512) NOT NULL, 
	version INTEGER NOT NULL, 
	id INTEGER NOT NULL, 
	deleted BOOLEAN NOT NULL, 
	PRIMARY KEY (subject, version), 
	FOREIGN KEY(id) REFERENCES schemas (id)
);
CREATE TABLE schemas (
	id INTEGER NOT NULL, 
	fingerprint VARCHAR(64) NOT NULL, 
	text TEXT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (fingerprint)
);
CREATE TABLE status_log (
	number INTEGER NOT NULL, 
	time_ns BIGINT NOT NULL, 
	region VARCHAR(64) NOT NULL, 
	kind VARCHAR(64) NOT NULL, 
	message TEXT NOT NULL, 
	detail TEXT NOT NULL, 
	PRIMARY KEY (number)
);
CREATE TABLE store_meta (
	id INTEGER NOT NULL, 
	uuid VARCHAR(32) NOT NULL, 
	term BIGINT NOT NULL, 
	schema_version INTEGER NOT NULL, 
	created_ns BIGINT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "store_meta" VALUES(1,'6e3687bf72854ecca19a16fc9259ca8f',1,2,1699920000000000000);
CREATE INDEX ix_directives_status ON directives (status);
CREATE INDEX ix_directives_ordered_at_ns ON directives (ordered_at_ns);
COMMIT;
