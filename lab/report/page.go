package report

func render(*Result) ([]byte, error) { return nil, nil }
