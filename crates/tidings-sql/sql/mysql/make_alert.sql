-- What watchers keep: alerts that are not over, messages on their way, facts that were counted.
CREATE TABLE IF NOT EXISTS tidings_alert (
  watcher VARCHAR(255) NOT NULL,
  -- alert, message, fact, channel
  kind    VARCHAR(16)  NOT NULL,
  name    VARCHAR(64)  NOT NULL,
  body    MEDIUMTEXT   NOT NULL,
  PRIMARY KEY (watcher, kind, name)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
