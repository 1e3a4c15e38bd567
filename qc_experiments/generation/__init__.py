"""From questions to SQL: decoding of many questions that share a schema."""
