-- How often groups try an event at most, in place and later, as their instances told last.
CREATE TABLE IF NOT EXISTS tidings_policy (
  consumer     VARCHAR(255) NOT NULL PRIMARY KEY,
  attempts_max BIGINT NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
