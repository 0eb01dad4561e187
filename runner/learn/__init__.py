"""The learner's page: many learning rates and momenta of one config, descended by the runner, on an offline page."""
