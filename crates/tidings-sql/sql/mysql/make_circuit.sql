-- Groups whose circuit is not closed: nearly everything fails, and they wait.
CREATE TABLE IF NOT EXISTS tidings_circuit (
  consumer VARCHAR(255) NOT NULL PRIMARY KEY,
  since_us BIGINT NOT NULL,
  -- When one event is tried; null while one is.
  probe_us BIGINT,
  reason   MEDIUMTEXT NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
