-- What groups could not handle yet, and what persons decided about it.

-- Deliveries that wait: of a lane, the one with the smallest id is next.
CREATE TABLE IF NOT EXISTS tidings_parked (
  id           BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  consumer     VARCHAR(255) NOT NULL,
  -- A hash of the key, in hexadecimal; and the key itself, null where the event has none.
  lane         CHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  lane_key     VARCHAR(1024),
  -- The 16-byte dedupe key of the event, in hexadecimal.
  event_key    CHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  event_id     VARCHAR(256) NOT NULL,
  event_type   VARCHAR(256) NOT NULL,
  -- The event as the JSON of an envelope, with the bytes of a message that is no event.
  envelope     LONGTEXT NOT NULL,
  problem      MEDIUMTEXT,
  log_position BIGINT,
  attempts     BIGINT NOT NULL,
  rounds       BIGINT NOT NULL,
  deaths       BIGINT NOT NULL,
  history      MEDIUMTEXT NOT NULL,
  -- When it is tried, in microseconds since 1970; null behind another row, and while its dead letter holds it.
  due_us       BIGINT,
  -- The dead letter that holds it or handed it back.
  letter       VARCHAR(256),
  parked_us    BIGINT NOT NULL,
  UNIQUE (consumer, event_key),
  KEY tidings_parked_lane (consumer, lane, id),
  KEY tidings_parked_due (consumer, due_us)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
-- Attempts that failed of events that are not settled.
CREATE TABLE IF NOT EXISTS tidings_attempt (
  consumer  VARCHAR(255) NOT NULL,
  event_key CHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  attempts  BIGINT NOT NULL,
  noted_us  BIGINT NOT NULL,
  PRIMARY KEY (consumer, event_key)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
-- Events that were given up; one row for each event and group, however often it dies.
CREATE TABLE IF NOT EXISTS tidings_dead_letter (
  -- Stays when the event dies again, so that lists can be read page by page.
  number          BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  id              VARCHAR(256) NOT NULL UNIQUE,
  consumer        VARCHAR(255) NOT NULL,
  lane            CHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  lane_key        VARCHAR(1024),
  event_key       CHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  event_id        VARCHAR(256) NOT NULL,
  event_type      VARCHAR(256) NOT NULL,
  aggregate_id    VARCHAR(1024),
  correlation_id  VARCHAR(1024),
  envelope        LONGTEXT NOT NULL,
  problem         MEDIUMTEXT,
  log_position    BIGINT,
  handler         VARCHAR(255) NOT NULL,
  code_version    VARCHAR(255) NOT NULL,
  cause           VARCHAR(64) NOT NULL,
  reason          MEDIUMTEXT NOT NULL,
  reasons         MEDIUMTEXT NOT NULL,
  fingerprint     VARCHAR(64) NOT NULL,
  attempts        BIGINT NOT NULL,
  rounds          BIGINT NOT NULL,
  deaths          BIGINT NOT NULL,
  history         MEDIUMTEXT NOT NULL,
  -- Whether later events of the key wait for a decision.
  holds           BIGINT NOT NULL,
  -- open, redriven, resolved, discarded, edited
  status          VARCHAR(64) NOT NULL,
  redrives        BIGINT NOT NULL DEFAULT 0,
  first_failed_us BIGINT,
  first_died_us   BIGINT NOT NULL,
  died_us         BIGINT NOT NULL,
  changed_us      BIGINT NOT NULL,
  -- The edited copy that stands for the event.
  edited          LONGTEXT,
  -- The run that handed it back last.
  redrive_run     VARCHAR(64),
  decided_by      MEDIUMTEXT,
  decided_why     MEDIUMTEXT,
  UNIQUE (consumer, event_key),
  KEY tidings_dead_letter_status (consumer, status, redrives, died_us),
  KEY tidings_dead_letter_fingerprint (fingerprint, status),
  KEY tidings_dead_letter_event (event_id),
  KEY tidings_dead_letter_run (redrive_run)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
-- What persons said of groups.
CREATE TABLE IF NOT EXISTS tidings_group (
  consumer   VARCHAR(255) NOT NULL PRIMARY KEY,
  -- Why it is paused; null while it is not.
  paused_why MEDIUMTEXT,
  changed_us BIGINT NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
-- Who did what, when and why.
CREATE TABLE IF NOT EXISTS tidings_operator_action (
  id       BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  at_us    BIGINT NOT NULL,
  actor    VARCHAR(255) NOT NULL,
  action   VARCHAR(64) NOT NULL,
  consumer VARCHAR(255),
  target   VARCHAR(256) NOT NULL,
  reason   MEDIUMTEXT NOT NULL,
  detail   MEDIUMTEXT NOT NULL,
  KEY tidings_operator_action_target (target)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
-- How far sources of dead letters, such as the log, were taken over.
CREATE TABLE IF NOT EXISTS tidings_taken_over (
  source VARCHAR(255) NOT NULL PRIMARY KEY,
  up_to  BIGINT NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
