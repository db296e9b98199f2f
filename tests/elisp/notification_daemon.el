;;; notification_daemon.el --- A desktop that keeps what it is told  -*- lexical-binding: t; -*-

;;; Commentary:

;; For a test: an Emacs of its own owns org.freedesktop.Notifications on the
;; session's D-Bus, writes each notification as a line of JSON to the file
;; NOTES, and clicks on the newest when the file CLICK appears.

;;; Code:

(require 'dbus)
(require 'json)

(defvar desktop-count 0 "Number of the newest notification.")

(defun desktop-notify (app _replaced _icon title body actions &rest _)
  "Write what APP tells: TITLE, BODY and ACTIONS; return its number."
  (write-region (concat (json-encode (list :app app :title title :body body :actions actions)) "\n")
                nil (getenv "NOTES") t 'silent)
  (list :uint32 (setq desktop-count (1+ desktop-count))))

(let ((name "org.freedesktop.Notifications") (path "/org/freedesktop/Notifications"))
  (dbus-register-method :session name path name "GetCapabilities"
                        (lambda () '(:array "body" "actions")))
  (dbus-register-method :session name path name "Notify" #'desktop-notify)
  (write-region "" nil (getenv "NOTES") nil 'silent)
  (while t
    (read-event nil nil 0.05)
    (when (file-exists-p (getenv "CLICK"))
      (delete-file (getenv "CLICK"))
      (dbus-send-signal :session nil path name "ActionInvoked"
                        :uint32 desktop-count "default"))))

;;; notification_daemon.el ends here
