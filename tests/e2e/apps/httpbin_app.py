"""httpbin (PyPI), as it is and in wsgiref.validate."""

from wsgiref.validate import validator

from httpbin import app as application

validated = validator(application)
