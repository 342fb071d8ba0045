-- A sequence that fills a column out of order: that of an identity or a serial column, or whichever its default draws from. A default that looks the name up
-- at each insert depends on no sequence, so its text is read as well.
SELECT CAST(s.seqrelid::regclass AS text), s.seqcache, s.seqincrement
FROM pg_sequence AS s
WHERE (s.seqcache > 1 OR s.seqincrement < 0) AND s.seqrelid IN (
  SELECT CAST(pg_get_serial_sequence(:table, :column) AS regclass)
  UNION ALL
  SELECT d.refobjid
  FROM pg_attribute AS a
  JOIN pg_attrdef AS f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
  JOIN pg_depend AS d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid AND d.refclassid = 'pg_class'::regclass
  WHERE a.attrelid = to_regclass(:table) AND a.attname = :column
  UNION ALL
  SELECT to_regclass(substring(pg_get_expr(f.adbin, f.adrelid) FROM 'nextval\(+''([^'']+)'''))
  FROM pg_attribute AS a
  JOIN pg_attrdef AS f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
  WHERE a.attrelid = to_regclass(:table) AND a.attname = :column
)
