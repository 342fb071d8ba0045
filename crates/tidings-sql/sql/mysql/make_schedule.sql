-- Events that are published later, once or again and again.
CREATE TABLE IF NOT EXISTS tidings_schedule (
  id            VARCHAR(256) NOT NULL PRIMARY KEY,
  -- When it is published next, in microseconds since 1970.
  due_us        BIGINT       NOT NULL,
  -- When it comes again; null for once.
  cron          VARCHAR(256),
  time_zone     VARCHAR(64),
  -- The event as the JSON of an envelope.
  envelope      LONGTEXT     NOT NULL,
  fired         BIGINT       NOT NULL,
  fired_last_us BIGINT,
  added_us      BIGINT       NOT NULL,
  KEY tidings_schedule_due (due_us)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
