SELECT name, lower(type), 0, pk > 0 FROM pragma_table_info(:table) ORDER BY cid
