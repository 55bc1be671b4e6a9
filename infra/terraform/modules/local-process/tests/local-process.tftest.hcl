# Plans alone: nothing is started here. That processes really start, grow, heal and end is tested with the program.
variables {
  name   = "global"
  dir    = "/nonexistent"
  binary = "/nonexistent/bin/medmesh"
  place  = "global"
  config = "data_dir = \"/nonexistent\"\n"
}

run "what_was_never_started_has_not_died" {
  command = plan
  assert {
    condition     = output.restarts == 0
    error_message = "no restart is counted"
  }
  assert {
    condition     = terraform_data.process.triggers_replace.config == var.config && terraform_data.process.triggers_replace.binary == var.binary
    error_message = "another configuration or program is another process"
  }
}

run "what_is_noted_and_does_not_live_is_counted" {
  command = plan
  variables {
    name = "dead"
    dir  = "/proc/self/cwd/tests/noted"
  }
  assert {
    condition     = output.restarts == 4
    error_message = "one death more than was noted"
  }
}

run "refuses_a_relative_folder" {
  command = plan
  variables {
    dir = "mesh"
  }
  expect_failures = [var.dir]
}

run "refuses_a_place_that_is_none" {
  command = plan
  variables {
    place = "edge/eu"
  }
  expect_failures = [var.place]
}
