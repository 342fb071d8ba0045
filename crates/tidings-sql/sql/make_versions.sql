-- Which version the tables of each part have.
CREATE TABLE IF NOT EXISTS tidings_schema (
  part    varchar(32) NOT NULL PRIMARY KEY,
  version bigint      NOT NULL
);
