-- Which instance of a group picks up what is due, and until when unless it says so again.
CREATE TABLE IF NOT EXISTS tidings_leader (
  consumer VARCHAR(255) NOT NULL PRIMARY KEY,
  owner    VARCHAR(255) NOT NULL,
  -- Grows with each change of the owner.
  epoch    BIGINT NOT NULL,
  until_us BIGINT NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
