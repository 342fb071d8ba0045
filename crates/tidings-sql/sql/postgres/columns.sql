SELECT a.attname, format_type(a.atttypid, NULL), CAST(a.attidentity <> '' AS integer), CAST(COALESCE(i.indisprimary, false) AS integer)
FROM pg_attribute AS a
LEFT JOIN pg_index AS i ON i.indrelid = a.attrelid AND i.indisprimary AND i.indnatts = 1 AND a.attnum = i.indkey[0]
WHERE a.attrelid = to_regclass(:table) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
