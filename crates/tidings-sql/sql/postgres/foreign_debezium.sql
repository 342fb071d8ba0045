-- An outbox as Debezium's outbox event router expects it. Rows are not in the order of their UUIDs, so that a number beside them tells it; in tidings.toml:
--   [relay.mapping]
--   order = "sequence"
CREATE TABLE IF NOT EXISTS outbox (
  id            uuid   NOT NULL PRIMARY KEY,
  aggregatetype text   NOT NULL,
  aggregateid   text   NOT NULL,
  type          text   NOT NULL,
  -- json keeps every byte; jsonb would write the document anew.
  payload       json,
  sequence      bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) UNIQUE
);
