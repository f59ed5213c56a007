"""Which URL is whose."""

from django.urls import path

from notes import views

urlpatterns = [
    path("", views.notes),
    path("slow", views.slow),
    path("connections", views.connections),
]
