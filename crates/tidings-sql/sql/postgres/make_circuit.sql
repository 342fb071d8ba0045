-- Groups whose circuit is not closed: nearly everything fails, and they wait.
CREATE TABLE IF NOT EXISTS tidings_circuit (
  consumer text NOT NULL PRIMARY KEY,
  since_us bigint NOT NULL,
  -- When one event is tried; null while one is.
  probe_us bigint,
  reason   text NOT NULL
);
