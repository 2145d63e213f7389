"""The dashboard: pages rendered on the server, readable without JavaScript, kept live with a little of it."""
