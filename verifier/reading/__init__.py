"""From text to data: rule sets, hosts and properties, with their places.  The only user of lark and of YAML."""
