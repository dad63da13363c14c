"""Access to the operating system: sysfs, vendor tools, the device tree, durable files."""
