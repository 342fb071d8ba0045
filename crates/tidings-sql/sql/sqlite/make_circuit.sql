-- Groups whose circuit is not closed: nearly everything fails, and they wait.
CREATE TABLE IF NOT EXISTS tidings_circuit (
  consumer TEXT NOT NULL PRIMARY KEY,
  since_us INTEGER NOT NULL,
  -- When one event is tried; null while one is.
  probe_us INTEGER,
  reason   TEXT NOT NULL
);
