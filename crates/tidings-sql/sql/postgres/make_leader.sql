-- Which instance of a group picks up what is due, and until when unless it says so again.
CREATE TABLE IF NOT EXISTS tidings_leader (
  consumer text    NOT NULL PRIMARY KEY,
  owner    text    NOT NULL,
  -- Grows with each change of the owner.
  epoch    bigint  NOT NULL,
  until_us bigint  NOT NULL
);
